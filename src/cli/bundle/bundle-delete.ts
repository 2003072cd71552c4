import { BatchDeleteFederatedBundleRequest_Mode as Mode, bundleService } from '../../wire/generated/server-bundle.ts'
import { refuseFailedItem, statusesSuffice } from '../batch-item.ts'
import { defineCommand } from '../command.ts'
import { beginWait, tellChange, waitFlags } from '../convergence/wait.ts'
import { choiceFlag, typedTrustDomainFlag } from '../flag.ts'
import { usage } from '../parse-flags.ts'
import { withServers } from '../servers.ts'
import { outputFlag, replicaFlags } from '../socket-path.ts'

const modes = { restrict: Mode.RESTRICT, delete: Mode.DELETE, dissociate: Mode.DISSOCIATE }

export const bundleDelete = defineCommand({
  flags: {
    id: typedTrustDomainFlag('the trust domain whose bundle goes'),
    mode: choiceFlag('entries that federate with it: refuse, delete, or unlink them', ['restrict', 'delete', 'dissociate'], 'restrict'),
    ...waitFlags,
    ...replicaFlags,
    output: outputFlag
  },
  examples: ['assay bundle delete -id spiffe://partner.test', 'assay bundle delete -id partner.test -mode dissociate'],
  async run (call) {
    const { flags, terminal } = call
    const { id: trustDomain } = flags
    if (trustDomain === undefined) throw usage('a trust domain is required: -id')
    const request = { trustDomains: [trustDomain], mode: modes[flags.mode] }
    return withServers(call, async servers => {
      const wait = await beginWait(call, servers)
      const { results } = await servers.change(channel =>
        channel.client(bundleService).batchDeleteFederatedBundle(request, { signal: terminal.signal }))
      const done = (results[0]?.status?.code ?? 0) === 0
      const pretty = () => { if (done) terminal.out('bundle deleted.\n') }
      const code = await tellChange(call, { json: { results }, pretty }, wait, done ? { entryIds: [] } : undefined)
      if (statusesSuffice(call)) return code
      refuseFailedItem(results[0]?.status)
      return code
    })
  }
})
