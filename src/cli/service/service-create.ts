import { serviceRegistryService } from '../../wire/generated/cluster.ts'
import { defineCommand } from '../command.ts'
import { beginWait } from '../convergence/wait.ts'
import { withServers } from '../servers.ts'
import { inServiceBatches, tellServices } from './service-batch.ts'
import { dataDetails, givenServices, serviceFlags } from './service-flags.ts'

export const serviceCreate = defineCommand({
  flags: serviceFlags,
  details: dataDetails,
  examples: [
    'assay service create -name web -port 80:8080/http@1080 -spiffeID spiffe://example.org/web',
    'assay service create -name db.shop -address 10.96.0.7 -port 5432 -spiffeID spiffe://example.org/db -caller spiffe://example.org/shop/* --wait',
    'assay service create -data services.json --output json'
  ],
  async run (call) {
    const { flags, terminal } = call
    const services = await givenServices(flags, terminal)
    return withServers(call, async servers => {
      const wait = await beginWait(call, servers)
      const results = await inServiceBatches(services, terminal, async batch => servers.change(async channel =>
        (await channel.client(serviceRegistryService).batchCreateService({ services: batch }, { signal: terminal.signal })).results))
      return tellServices(call, { verb: 'create', asked: services, results }, wait)
    })
  }
})
