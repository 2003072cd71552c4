import { removeRedirect } from '../../redirect/redirect.ts'
import { defineCommand } from '../command.ts'
import { formatJson } from '../json-output.ts'
import { outputFlag } from '../socket-path.ts'
import { scopeFlags, scopeOf } from './redirect-flags.ts'

export const redirectRemove = defineCommand({
  flags: { ...scopeFlags, output: outputFlag },
  details: 'Removes what `assay redirect apply` wrote for this scope and nothing else; it is no error when there is nothing.\n' +
    'Connections that were redirected stay with the proxy until they end.',
  examples: [
    'assay redirect remove -netns /run/netns/blue',
    'assay redirect remove -uid 1000',
    'assay redirect remove -cgroup /system.slice/web.service'
  ],
  async run ({ flags, terminal }) {
    const removed = await removeRedirect(scopeOf(flags), terminal.signal)
    terminal.out(flags.output === 'json' ? `${formatJson({ removed })}\n` : removed ? 'removed\n' : 'nothing was redirected\n')
    return 0
  }
})
