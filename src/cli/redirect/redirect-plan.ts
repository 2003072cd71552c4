import { planRedirect } from '../../redirect/redirect.ts'
import { defineCommand } from '../command.ts'
import { formatJson } from '../json-output.ts'
import { outputFlag } from '../socket-path.ts'
import { planFlags, planOf, toolFlag } from './redirect-flags.ts'

export const redirectPlan = defineCommand({
  flags: { ...planFlags, tool: toolFlag, output: outputFlag },
  details: 'Changes nothing and needs no rights.',
  examples: [
    'assay redirect plan -netns /run/netns/blue',
    'assay redirect plan -uid 1000 -exclude-port 22,53 -exclude-cidr 10.96.0.0/12',
    'assay redirect plan -cgroup /system.slice/web.service -tool iptables'
  ],
  async run ({ flags, terminal }) {
    const tool = flags.tool ?? 'nft'
    const rules = planRedirect(planOf(flags), tool)
    terminal.out(flags.output === 'json' ? `${formatJson({ tool, rules })}\n` : rules)
    return 0
  }
})
