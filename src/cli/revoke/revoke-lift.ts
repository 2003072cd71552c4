import { revocationService, type RevocationRecord } from '../../wire/generated/revocation.ts'
import { defineCommand } from '../command.ts'
import { beginWait, tellChange, waitFlags } from '../convergence/wait.ts'
import { withServers } from '../servers.ts'
import { outputFlag, replicaFlags } from '../socket-path.ts'
import { encodeRevocation, formatRevocation } from './format-revocation.ts'

export const revokeLift = defineCommand({
  argument: { name: 'REVOCATION-ID' },
  flags: { ...waitFlags, ...replicaFlags, output: outputFlag },
  details: 'What was revoked is trusted again where it has not expired. The agent of a node stays banned until it is evicted.',
  examples: ['assay revoke lift 7b0d6c0e-5f0f-4b62-9d26-0b1f3a1f4f6a --wait'],
  async run (call) {
    const { argument: id, terminal } = call
    return withServers(call, async servers => {
      const wait = await beginWait(call, servers)
      const { revocation } = await servers.change(channel =>
        channel.client(revocationService).liftRevocation({ id }, { signal: terminal.signal }))
      const record = revocation as RevocationRecord
      const pretty = () => terminal.out(`Lifted\n\n${formatRevocation(record)}`)
      return tellChange(call, { json: { revocation: encodeRevocation(record) }, pretty }, wait, { entryIds: [] })
    })
  }
})
