import { trustDomainService } from '../../wire/generated/server-trust-domain.ts'
import { defineCommand } from '../command.ts'
import { beginWait } from '../convergence/wait.ts'
import { usage } from '../parse-flags.ts'
import { withServers } from '../servers.ts'
import { inFederationBatches, tellFederation } from './federation-batch.ts'
import { dataDetails, federationFlags, relationshipOfFlags, relationshipsOfData } from './federation-flags.ts'

export const federationCreate = defineCommand({
  flags: federationFlags,
  details: dataDetails,
  examples: [
    'assay federation create -trustDomain partner.test -bundleEndpointURL https://partner.test/bundle -bundleEndpointProfile https_web',
    'assay federation create -trustDomain partner.test -bundleEndpointURL https://10.0.0.1:8443 -bundleEndpointProfile https_spiffe ' +
      '-endpointSpiffeID spiffe://partner.test/spire/server -trustDomainBundlePath partner.pem',
    'assay federation create -data partners.json --output json'
  ],
  async run (call) {
    const { flags, terminal } = call
    const given = await relationshipsOfData(flags, terminal)
    if (given === undefined && flags.bundleEndpointURL === undefined) throw usage('a bundle endpoint URL is required: -bundleEndpointURL')
    if (given === undefined && flags.bundleEndpointProfile === undefined) {
      throw usage('a bundle endpoint profile is required: -bundleEndpointProfile')
    }
    const asked = given ?? [await relationshipOfFlags(flags, terminal)]
    return withServers(call, async servers => {
      const wait = await beginWait(call, servers)
      const results = await inFederationBatches(asked, batch => servers.change(async channel => {
        const request = { federationRelationships: batch }
        return (await channel.client(trustDomainService).batchCreateFederationRelationship(request, { signal: terminal.signal })).results
      }))
      return tellFederation(call, { verb: 'create', asked, results }, wait)
    })
  }
})
