import { withAgentAt } from '../channel-call.ts'
import { type Command, defineCommand } from '../command.ts'
import { optionalChoiceFlag } from '../flag.ts'
import { usage } from '../parse-flags.ts'
import { agentAdminFlags, agentAdminSocketPath, outputFlag } from '../socket-path.ts'
import { askLogger, levels, tellLogger } from './log-level-calls.ts'

const flags = { ...agentAdminFlags, output: outputFlag }

export const agentLoggerGet = command('get', undefined)
export const agentLoggerReset = command('reset', 'reset')

export const agentLoggerSet = defineCommand({
  flags: { level: optionalChoiceFlag('what is logged from here on, until the agent ends', levels), ...flags },
  examples: ['assay agent logger set -level debug -socketPath /run/assay/admin/admin.sock'],
  async run ({ flags: { level, output, socketPath }, terminal }) {
    if (level === undefined) throw usage('a value (-level) must be set')
    const path = agentAdminSocketPath(socketPath, terminal)
    return tellLogger(await withAgentAt(path, channel => askLogger(channel, 'agent', { to: level }, terminal)), output, terminal)
  }
})

function command (verb: string, change: 'reset' | undefined): Command {
  return defineCommand({
    flags,
    examples: [`assay agent logger ${verb} -socketPath /run/assay/admin/admin.sock`],
    async run ({ flags: { output, socketPath }, terminal }) {
      const path = agentAdminSocketPath(socketPath, terminal)
      return tellLogger(await withAgentAt(path, channel => askLogger(channel, 'agent', change, terminal)), output, terminal)
    }
  })
}
