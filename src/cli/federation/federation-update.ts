import { trustDomainService } from '../../wire/generated/server-trust-domain.ts'
import type { FederationRelationshipInit, FederationRelationshipMaskInit } from '../../wire/generated/types.ts'
import { defineCommand } from '../command.ts'
import { beginWait } from '../convergence/wait.ts'
import { usage } from '../parse-flags.ts'
import { withServers } from '../servers.ts'
import { inFederationBatches, tellFederation } from './federation-batch.ts'
import { dataDetails, federationFlags, relationshipOfFlags, relationshipsOfData } from './federation-flags.ts'

export const federationUpdate = defineCommand({
  flags: federationFlags,
  details: `What no flag names stays as it is.\n${dataDetails}`,
  examples: [
    'assay federation update -trustDomain partner.test -bundleEndpointURL https://partner.test/new',
    'assay federation update -trustDomain partner.test -bundleEndpointProfile https_web',
    'assay federation update -data partners.json'
  ],
  async run (call) {
    const { flags, terminal } = call
    const given = await relationshipsOfData(flags, terminal)
    const asked = given ?? [await relationshipOfFlags(flags, terminal)]
    const inputMask = given === undefined ? maskOf(asked[0] as FederationRelationshipInit) : undefined
    return withServers(call, async servers => {
      const wait = await beginWait(call, servers)
      const results = await inFederationBatches(asked, batch => servers.change(async channel => {
        const request = { federationRelationships: batch, inputMask }
        return (await channel.client(trustDomainService).batchUpdateFederationRelationship(request, { signal: terminal.signal })).results
      }))
      return tellFederation(call, { verb: 'update', asked, results }, wait)
    })
  }
})

function maskOf (relationship: FederationRelationshipInit): FederationRelationshipMaskInit {
  const { bundleEndpointUrl, httpsWeb, httpsSpiffe, trustDomainBundle } = relationship
  const mask = {
    bundleEndpointUrl: bundleEndpointUrl !== undefined,
    bundleEndpointProfile: httpsWeb !== undefined || httpsSpiffe !== undefined,
    trustDomainBundle: trustDomainBundle !== undefined
  }
  if (Object.values(mask).some(named => named)) return mask
  throw usage('nothing to change: -bundleEndpointURL, -bundleEndpointProfile or -trustDomainBundlePath')
}
