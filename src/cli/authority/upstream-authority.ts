import { localAuthorityService } from '../../wire/generated/server-local-authority.ts'
import { withServer } from '../channel-call.ts'
import { defineCommand, type Command } from '../command.ts'
import { textFlag } from '../flag.ts'
import { formatJson } from '../json-output.ts'
import { usage } from '../parse-flags.ts'
import { printable } from '../pretty.ts'
import { outputFlag, serverFlags } from '../socket-path.ts'

/** For servers whose CA is signed by another one. */
export function upstreamAuthorityVerb (verb: 'taint' | 'revoke'): Command {
  return defineCommand({
    flags: {
      subjectKeyID: textFlag('subject key id of the upstream CA, in lower-case hex', { placeholder: 'HEX' }),
      ...serverFlags,
      output: outputFlag
    },
    details: verb === 'taint'
      ? 'What was signed below this root is replaced, and stays valid meanwhile. It must not sign the active or the prepared CA:\n' +
        'give the upstream another root, then prepare and activate.'
      : 'Takes a tainted root out of the bundle, for good: whatever was signed below it is refused from now on.',
    examples: [`assay upstreamauthority ${verb} -subjectKeyID 1b0a6f25…`],
    async run (call) {
      const { flags, terminal } = call
      const { subjectKeyID: subjectKeyId } = flags
      if (subjectKeyId === undefined) throw usage('the Subject Key ID of the X.509 upstream authority is required: -subjectKeyID')
      const response = await withServer(call, channel => {
        const client = channel.client(localAuthorityService)
        const { signal } = terminal
        return verb === 'taint'
          ? client.taintX509UpstreamAuthority({ subjectKeyId }, { signal })
          : client.revokeX509UpstreamAuthority({ subjectKeyId }, { signal })
      })
      terminal.out(flags.output === 'json'
        ? `${formatJson(response)}\n`
        : `${verb === 'taint' ? 'Tainted' : 'Revoked'} X.509 upstream authority:\n` +
          `  Subject Key ID: ${printable(response.upstreamAuthoritySubjectKeyId)}\n`)
      return 0
    }
  })
}
