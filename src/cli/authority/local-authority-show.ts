import { withServer } from '../channel-call.ts'
import { defineCommand, type Command } from '../command.ts'
import { formatJson } from '../json-output.ts'
import { outputFlag, serverFlags } from '../socket-path.ts'
import { authorityCalls, type AuthorityKind } from './authority-calls.ts'
import { formatAuthority } from './format-authority.ts'

export function localAuthorityShow (kind: AuthorityKind): Command {
  return defineCommand({
    flags: { ...serverFlags, output: outputFlag },
    examples: [`assay localauthority ${kind} show`, `assay localauthority ${kind} show --output json`],
    async run (call) {
      const { flags, terminal } = call
      const states = await withServer(call, channel => authorityCalls(channel, kind, { signal: terminal.signal }).show())
      const roles = { Active: states.active, Prepared: states.prepared, Old: states.old }
      terminal.out(flags.output === 'json'
        ? `${formatJson(states)}\n`
        : Object.entries(roles).map(([role, state]) => formatAuthority(role, kind, state)).join('\n'))
      return 0
    }
  })
}
