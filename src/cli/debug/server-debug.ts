import { debugService } from '../../wire/generated/server-debug.ts'
import { withServer } from '../channel-call.ts'
import { defineCommand } from '../command.ts'
import { formatJson } from '../json-output.ts'
import { outputFlag, serverFlags } from '../socket-path.ts'
import { formatDebugInfo, formatUptime } from './format-debug-info.ts'

export const serverDebugInfo = defineCommand({
  flags: { ...serverFlags, output: outputFlag },
  examples: ['assay server debug getinfo'],
  async run (call) {
    const { flags, terminal } = call
    const info = await withServer(call, channel => channel.client(debugService).getInfo({}, { signal: terminal.signal }))
    terminal.out(flags.output === 'json' ? `${formatJson(info)}\n` : formatDebugInfo('Server Debug Info', [
      ['Uptime', formatUptime(info.uptime)],
      ['Registered Agents', String(info.agentsCount)],
      ['Registration Entries', String(info.entriesCount)],
      ['Federated Bundles', String(info.federatedBundlesCount)]
    ], 25, info.svidChain))
    return 0
  }
})
