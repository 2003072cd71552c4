import { BatchDeleteFederatedBundleRequest_Mode as Mode, bundleService } from '../../wire/generated/server-bundle.ts'
import { trustDomainService } from '../../wire/generated/server-trust-domain.ts'
import { refuseFailedItem, statusesSuffice } from '../batch-item.ts'
import { defineCommand } from '../command.ts'
import { beginWait, tellChange, waitFlags } from '../convergence/wait.ts'
import { choiceFlag, trustDomainFlag } from '../flag.ts'
import { usage } from '../parse-flags.ts'
import { withServers } from '../servers.ts'
import { outputFlag, replicaFlags } from '../socket-path.ts'

const modes = { restrict: Mode.RESTRICT, delete: Mode.DELETE, dissociate: Mode.DISSOCIATE }

export const federationDelete = defineCommand({
  flags: {
    id: trustDomainFlag('the trust domain with which the relationship ends'),
    bundle: choiceFlag('its bundle: keep it, or remove it too, as `assay bundle delete -mode` does', [
      'keep', 'restrict', 'delete', 'dissociate'
    ], 'keep'),
    ...waitFlags,
    ...replicaFlags,
    output: outputFlag
  },
  details: 'A bundle that is kept is still trusted, and fetched no more.',
  examples: ['assay federation delete -id partner.test', 'assay federation delete -id partner.test -bundle dissociate --wait'],
  async run (call) {
    const { flags, terminal } = call
    const { id: trustDomain, bundle } = flags
    const { signal } = terminal
    if (trustDomain === undefined) throw usage('a trust domain is required: -id')
    return withServers(call, async servers => {
      const wait = await beginWait(call, servers)
      const { results } = await servers.change(channel =>
        channel.client(trustDomainService).batchDeleteFederationRelationship({ trustDomains: [trustDomain] }, { signal }))
      const ended = (results[0]?.status?.code ?? 0) === 0
      // The relationship first: whoever fetches would bring the bundle back.
      const removal = !ended || bundle === 'keep' ? undefined : await servers.change(channel =>
        channel.client(bundleService).batchDeleteFederatedBundle({ trustDomains: [trustDomain], mode: modes[bundle] }, { signal }))
      const removed = removal !== undefined && (removal.results[0]?.status?.code ?? 0) === 0
      const pretty = () => {
        if (ended) terminal.out('federation relationship deleted.\n')
        if (removed) terminal.out('bundle deleted.\n')
      }
      const json = removal === undefined ? { results } : { results, bundleResults: removal.results }
      const code = await tellChange(call, { json, pretty }, wait, removed ? { entryIds: [] } : undefined)
      if (statusesSuffice(call)) return code
      refuseFailedItem(results[0]?.status)
      refuseFailedItem(removal?.results[0]?.status)
      return code
    })
  }
})
