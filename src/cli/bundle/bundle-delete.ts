import { BatchDeleteFederatedBundleRequest_Mode as Mode, bundleService } from '../../wire/generated/server-bundle.ts'
import { refuseFailedItem } from '../batch-item.ts'
import { withServer } from '../channel-call.ts'
import { defineCommand } from '../command.ts'
import { choiceFlag, trustDomainFlag } from '../flag.ts'
import { formatJson } from '../json-output.ts'
import { usage } from '../parse-flags.ts'
import { outputFlag, serverFlags } from '../socket-path.ts'

const modes = { restrict: Mode.RESTRICT, delete: Mode.DELETE, dissociate: Mode.DISSOCIATE }

export const bundleDelete = defineCommand({
  flags: {
    id: trustDomainFlag('the trust domain whose bundle goes'),
    mode: choiceFlag('entries that federate with it: refuse, delete, or unlink them', ['restrict', 'delete', 'dissociate'], 'restrict'),
    ...serverFlags,
    output: outputFlag
  },
  examples: ['assay bundle delete -id spiffe://partner.test', 'assay bundle delete -id partner.test -mode dissociate'],
  async run (call) {
    const { flags, terminal } = call
    const { id: trustDomain } = flags
    if (trustDomain === undefined) throw usage('a trust domain is required: -id')
    const request = { trustDomains: [trustDomain], mode: modes[flags.mode] }
    const { results } = await withServer(call, channel =>
      channel.client(bundleService).batchDeleteFederatedBundle(request, { signal: terminal.signal }))
    if (flags.output === 'json') terminal.out(`${formatJson({ results })}\n`)
    refuseFailedItem(results[0]?.status)
    if (flags.output === 'pretty') terminal.out('bundle deleted.\n')
    return 0
  }
})
