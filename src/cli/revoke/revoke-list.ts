import { revocationService } from '../../wire/generated/revocation.ts'
import { withServer } from '../channel-call.ts'
import { defineCommand } from '../command.ts'
import { formatJson } from '../json-output.ts'
import { counted } from '../pretty.ts'
import { outputFlag, serverFlags } from '../socket-path.ts'
import { encodeRevocation, formatRevocation } from './format-revocation.ts'

export const revokeList = defineCommand({
  flags: { ...serverFlags, output: outputFlag },
  examples: ['assay revoke list', 'assay revoke list --output json'],
  async run (call) {
    const { flags, terminal } = call
    const { revocations } = await withServer(call, channel =>
      channel.client(revocationService).listRevocations({}, { signal: terminal.signal }))
    if (flags.output === 'json') terminal.out(`${formatJson({ revocations: revocations.map(encodeRevocation) })}\n`)
    else if (revocations.length === 0) terminal.out('Nothing is revoked\n')
    else terminal.out(`${counted(revocations.length, 'revocation', 'revocations')}\n\n${revocations.map(formatRevocation).join('\n')}`)
    return 0
  }
})
