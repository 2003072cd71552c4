import type { AdminRole } from '../../authz/admin/role.ts'
import { defineCommand } from '../command.ts'
import { formatJson } from '../json-output.ts'
import { formatTable } from '../pretty.ts'
import { outputFlag } from '../socket-path.ts'
import { readServerConfig, serverConfigFlags } from '../server/server-config-flags.ts'
import { describeScope, formatMatch } from './describe-role.ts'

export const roleList = defineCommand({
  flags: { ...serverConfigFlags, output: outputFlag },
  details: 'Reads the server\'s configuration, not a running server. Whoever is among admin_ids or has an entry with the admin flag,\n' +
    'and whoever calls over the admin socket without a role, may do all: they are not listed.',
  examples: ['assay role list -config server.yaml', 'assay role list -config server.yaml --output json'],
  async run ({ flags, terminal }) {
    const { roles: { all } } = await readServerConfig(flags, terminal)
    if (flags.output === 'json') terminal.out(`${formatJson({ roles: all.map(encodeRole) })}\n`)
    else if (all.length === 0) terminal.out('No roles: the admin socket, admin_ids and entries with the admin flag may do all.\n')
    else terminal.out(formatTable(['ROLE', 'HOLDERS', 'VERBS', 'SCOPE'], all.map(role => [
      role.name, holdersOf(role).join(' '), [...role.verbs].join(' '), describeScope(role.scope).join('; ')
    ])))
    return 0
  }
})

function holdersOf ({ members, uids }: AdminRole): string[] { return [...members.map(formatMatch), ...uids.map(uid => `uid:${uid}`)] }

function encodeRole (role: AdminRole): object {
  return { name: role.name, holders: holdersOf(role), verbs: [...role.verbs], scope: describeScope(role.scope) }
}
