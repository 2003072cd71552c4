import { trustDomainService } from '../../wire/generated/server-trust-domain.ts'
import { withServer } from '../channel-call.ts'
import { defineCommand } from '../command.ts'
import { trustDomainFlag } from '../flag.ts'
import { formatJson } from '../json-output.ts'
import { usage } from '../parse-flags.ts'
import { outputFlag, serverFlags } from '../socket-path.ts'

export const federationRefresh = defineCommand({
  flags: { id: trustDomainFlag('the trust domain whose bundle is fetched now'), ...serverFlags, output: outputFlag },
  examples: ['assay federation refresh -id partner.test'],
  async run (call) {
    const { flags, terminal } = call
    const { id: trustDomain } = flags
    if (trustDomain === undefined) throw usage('a trust domain is required: -id')
    await withServer(call, channel => channel.client(trustDomainService).refreshBundle({ trustDomain }, { signal: terminal.signal }))
    terminal.out(flags.output === 'json' ? `${formatJson({})}\n` : 'Bundle refreshed\n')
    return 0
  }
})
