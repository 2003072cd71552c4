import type { Channel } from '../../rpc/channel.ts'
import type { ServiceInit } from '../../wire/generated/assay-types.ts'
import { serviceRegistryService } from '../../wire/generated/cluster.ts'
import { defineCommand } from '../command.ts'
import { beginWait } from '../convergence/wait.ts'
import { withServers } from '../servers.ts'
import { inServiceBatches, tellServices } from './service-batch.ts'
import { dataDetails, givenServices, serviceFlags } from './service-flags.ts'

export const serviceUpdate = defineCommand({
  flags: serviceFlags,
  details: 'The service becomes what the flags say: what is not given falls back to its default.\n' +
    `With -serviceID it may get another name.\n${dataDetails}`,
  examples: [
    'assay service update -name web -port 80:9090/http -spiffeID spiffe://example.org/web --wait',
    'assay service update -serviceID 6c2e… -name shop -port 80 -spiffeID spiffe://example.org/web'
  ],
  async run (call) {
    const { flags, terminal } = call
    const services = await givenServices(flags, terminal)
    return withServers(call, async servers => {
      const wait = await beginWait(call, servers)
      const named: ServiceInit[] = []
      for (const service of services) named.push(await servers.ask(channel => withId(channel, service, terminal.signal)))
      const results = await inServiceBatches(named, terminal, async batch => servers.change(async channel =>
        (await channel.client(serviceRegistryService).batchUpdateService({ services: batch }, { signal: terminal.signal })).results))
      return tellServices(call, { verb: 'update', asked: named, results }, wait)
    })
  }
})

/** Without an id of its own, the one that its name has. @throws {RpcError} `NOT_FOUND` */
async function withId (channel: Channel, service: ServiceInit, signal: AbortSignal): Promise<ServiceInit> {
  if (service.id !== undefined && service.id !== '') return service
  const stored = await channel.client(serviceRegistryService).getService({ name: service.name }, { signal })
  return { ...service, id: stored.service?.id }
}
