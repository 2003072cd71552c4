import { debugService } from '../../wire/generated/agent-debug.ts'
import { withAgentAt } from '../channel-call.ts'
import { defineCommand } from '../command.ts'
import { formatJson } from '../json-output.ts'
import { agentAdminFlags, agentAdminSocketPath, outputFlag } from '../socket-path.ts'
import { formatDebugInfo, formatUptime } from './format-debug-info.ts'

export const agentDebugInfo = defineCommand({
  flags: { ...agentAdminFlags, output: outputFlag },
  examples: ['assay agent debug getinfo -socketPath /run/assay/admin/admin.sock'],
  async run ({ flags, terminal }) {
    const path = agentAdminSocketPath(flags.socketPath, terminal)
    const info = await withAgentAt(path, channel => channel.client(debugService).getInfo({}, { signal: terminal.signal }))
    const { lastSyncSuccess: synced } = info
    terminal.out(flags.output === 'json' ? `${formatJson(info)}\n` : formatDebugInfo('Agent Debug Info', [
      ['Uptime', formatUptime(info.uptime)],
      ['Last Sync Success', Number(synced) === 0 ? 'never' : new Date(Number(synced) * 1_000).toISOString().replace('.000Z', 'Z')],
      ['Cached X.509 SVIDs', String(info.cachedX509SvidsCount)],
      ['Cached JWT SVIDs', String(info.cachedJwtSvidsCount)],
      ['Cached SVID Store X.509 SVIDs', String(info.cachedSvidstoreX509SvidsCount)]
    ], 33, info.svidChain))
    return 0
  }
})
