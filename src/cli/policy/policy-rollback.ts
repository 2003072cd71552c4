import { policyService } from '../../wire/generated/policy.ts'
import { defineCommand } from '../command.ts'
import { beginWait, tellChange, waitFlags } from '../convergence/wait.ts'
import { numberFlag, textFlag } from '../flag.ts'
import { usage } from '../parse-flags.ts'
import { withServers } from '../servers.ts'
import { outputFlag, replicaFlags } from '../socket-path.ts'
import { formatChange, policyConcern } from './format-policy.ts'
import { activeNumber } from './policy-calls.ts'

export const policyRollback = defineCommand({
  flags: {
    comment: textFlag('why, for the history', { defaultText: 'back to version N' }),
    replaces: numberFlag('the version that is active as far as you know; refused when it is another', { minimum: 0 }),
    ...waitFlags,
    ...replicaFlags,
    output: outputFlag
  },
  argument: { name: 'N' },
  details: 'Makes a new version of the documents of version N.',
  examples: ['assay policy rollback 7 --wait', 'assay policy rollback 7 -replaces 9 -comment web-was-locked-out'],
  async run (call) {
    const { flags: { comment, ...given }, argument, terminal } = call
    const { signal } = terminal
    if (!/^[1-9]\d{0,14}$/.test(argument)) throw usage(`${JSON.stringify(argument)} is no version: a number such as 7`)
    const version = Number(argument)
    return await withServers(call, async servers => {
      const replaces = given.replaces ?? await activeNumber(servers, signal)
      const wait = await beginWait(call, servers)
      const change = await servers.change(channel =>
        channel.client(policyService).rollbackPolicies({ version, replaces, comment }, { signal, timeoutMs: 60_000 }))
      return await tellChange(call, { json: change, pretty: () => terminal.out(formatChange(change)) }, wait, policyConcern(change))
    })
  }
})
