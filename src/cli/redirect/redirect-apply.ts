import { describeScope } from '../../redirect/redirect-plan.ts'
import { applyRedirect } from '../../redirect/redirect.ts'
import { defineCommand } from '../command.ts'
import { formatJson } from '../json-output.ts'
import { formatRows } from '../pretty.ts'
import { outputFlag } from '../socket-path.ts'
import { planFlags, planOf, toolFlag } from './redirect-flags.ts'

export const redirectApply = defineCommand({
  flags: { ...planFlags, tool: toolFlag, output: outputFlag },
  details: 'Replaces what was applied for the same scope before, and touches no other rules. Needs root, or CAP_NET_ADMIN and, for\n' +
    'another namespace, CAP_SYS_ADMIN. Rules do not outlive a reboot, and those of a control group not the group: see docs/redirect.md.',
  examples: [
    'assay redirect apply -netns /run/netns/blue',
    'assay redirect apply -uid 1000 -outbound-port 15101 -exclude-port 22',
    'assay redirect apply -cgroup /system.slice/web.service --output json'
  ],
  async run ({ flags, terminal }) {
    const plan = planOf(flags)
    const { tool } = await applyRedirect(plan, terminal.signal, flags.tool)
    const { outboundPort, inboundPort } = plan
    const facts = { scope: scopeText(plan.scope), outboundPort, inboundPort, tool }
    terminal.out(flags.output === 'json' ? `${formatJson(facts)}\n` : formatRows([
      ['Redirected', facts.scope],
      ['Outbound', `to port ${outboundPort}`],
      ['Inbound', inboundPort === undefined ? undefined : `to port ${inboundPort}`],
      ['By', tool]
    ], 11))
    return 0
  }
})

function scopeText (scope: ReturnType<typeof planOf>['scope']): string {
  return scope.kind === 'netns' ? `namespace ${scope.path}` : describeScope(scope)
}
