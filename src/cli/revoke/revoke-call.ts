import type { RevocationRecord, RevokeRequestInit } from '../../wire/generated/revocation.ts'
import { revocationService } from '../../wire/generated/revocation.ts'
import type { Call, ExitCode } from '../command.ts'
import { beginWait, tellChange, waitFlags } from '../convergence/wait.ts'
import { textFlag } from '../flag.ts'
import { withServers } from '../servers.ts'
import { outputFlag, replicaFlags } from '../socket-path.ts'
import { encodeRevocation, formatRevocation } from './format-revocation.ts'

export const revokeFlags = {
  reason: textFlag('why, for whoever reads the list or the log'),
  ...waitFlags,
  ...replicaFlags,
  output: outputFlag
}

/** Every agent denies what is revoked, so every agent is concerned. */
const everybody = { entryIds: [] }

/** Has something revoked and tells it. */
export async function revoke (call: Call<typeof revokeFlags>, request: RevokeRequestInit): Promise<ExitCode> {
  const { flags: { reason = '' }, terminal } = call
  return withServers(call, async servers => {
    const wait = await beginWait(call, servers)
    const { revocation } = await servers.change(channel =>
      channel.client(revocationService).revoke({ ...request, reason }, { signal: terminal.signal }))
    const record = revocation as RevocationRecord
    const pretty = () => terminal.out(`Revoked\n\n${formatRevocation(record)}`)
    return tellChange(call, { json: { revocation: encodeRevocation(record) }, pretty }, wait, everybody)
  })
}
