import { withServer } from '../channel-call.ts'
import { type Command, defineCommand } from '../command.ts'
import { optionalChoiceFlag } from '../flag.ts'
import { usage } from '../parse-flags.ts'
import { outputFlag, serverFlags } from '../socket-path.ts'
import { askLogger, levels, tellLogger } from './log-level-calls.ts'

const flags = { ...serverFlags, output: outputFlag }

export const serverLoggerGet = command('get', undefined)
export const serverLoggerReset = command('reset', 'reset')

export const serverLoggerSet = defineCommand({
  flags: { level: optionalChoiceFlag('what is logged from here on, until the server ends', levels), ...flags },
  examples: ['assay server logger set -level debug'],
  async run (call) {
    const { flags: { level, output }, terminal } = call
    if (level === undefined) throw usage('a value (-level) must be set')
    return tellLogger(await withServer(call, channel => askLogger(channel, 'server', { to: level }, terminal)), output, terminal)
  }
})

function command (verb: string, change: 'reset' | undefined): Command {
  return defineCommand({
    flags,
    examples: [`assay server logger ${verb}`, `assay server logger ${verb} -output json`],
    async run (call) {
      const { flags: { output }, terminal } = call
      return tellLogger(await withServer(call, channel => askLogger(channel, 'server', change, terminal)), output, terminal)
    }
  })
}
