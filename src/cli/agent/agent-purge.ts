import { systemClock } from '../../runtime/clock.ts'
import { agentService } from '../../wire/generated/server-agent.ts'
import { withServer } from '../channel-call.ts'
import { defineCommand } from '../command.ts'
import { durationFlag, switchFlag } from '../flag.ts'
import { formatJson } from '../json-output.ts'
import { allPages, pageSize } from '../paged.ts'
import { counted, formatRows } from '../pretty.ts'
import { openProgress } from '../progress.ts'
import { refusalOf } from '../refusal.ts'
import { outputFlag, serverFlags } from '../socket-path.ts'
import { agentFilterOf } from './agent-filter.ts'
import { agentIdText } from './agent-id.ts'

interface Outcome { readonly agentId: string, readonly deleted: boolean, readonly error: string }

export const agentPurge = defineCommand({
  flags: {
    expiredFor: durationFlag('how long ago the agent\'s SVID must have ended', 720 * 3_600_000, '720h'),
    dryRun: switchFlag('only tell which agents would go'),
    ...serverFlags,
    output: outputFlag
  },
  details: 'Only agents that can attest again are purged; the others, and banned ones, stay until they are evicted by name.',
  examples: ['assay agent purge -dryRun', 'assay agent purge -expiredFor 168h'],
  async run (call) {
    const { flags, terminal } = call
    const { signal } = terminal
    const before = new Date(systemClock.now().getTime() - flags.expiredFor)
    const outcomes = await withServer(call, async channel => {
      const client = channel.client(agentService)
      const filter = agentFilterOf({
        attestationType: undefined, banned: undefined, canReattest: true, expiresBefore: before, selector: [], matchSelectorsOn: 'superset'
      })
      const agents = await allPages(terminal, 'agents', async pageToken => {
        const { agents: items, nextPageToken } = await client.listAgents({ filter, pageSize, pageToken }, { signal })
        return { items, nextPageToken }
      })
      // A server that does not know a filter ignores it; deleting must not depend on that.
      const expired = agents.filter(agent => agent.canReattest && !agent.banned && agent.x509svidExpiresAt * 1000n < before.getTime())
      using progress = openProgress(terminal, expired.length, 'agents purged')
      const done: Outcome[] = []
      for (const agent of expired) {
        const error = flags.dryRun ? '' : await client.deleteAgent({ id: agent.id }, { signal }).then(() => '', messageOf)
        done.push({ agentId: agentIdText(agent), deleted: !flags.dryRun && error === '', error })
        progress.show(done.length)
      }
      return done
    })
    terminal.out(flags.output === 'json' ? `${formatJson({ expiredAgents: outcomes })}\n` : formatPurge(outcomes, flags.dryRun))
    return outcomes.some(({ error }) => error !== '') ? 1 : 0
  }
})

function formatPurge (outcomes: readonly Outcome[], dryRun: boolean): string {
  if (outcomes.length === 0) return 'No agents to purge.\n'
  const purged = outcomes.filter(({ deleted }) => deleted)
  const kept = outcomes.filter(({ deleted }) => !deleted)
  return `Found ${counted(outcomes.length, 'expired agent', 'expired agents')}\n` +
    section('Agents purged:', purged) + section(dryRun ? 'Agents that can be purged:' : 'Agents not purged:', kept)
}

function section (title: string, outcomes: readonly Outcome[]): string {
  if (outcomes.length === 0) return ''
  const rows = outcomes.map(({ agentId, error }) => formatRows([['SPIFFE ID', agentId], ['Error', error === '' ? undefined : error]], 18))
  return `\n${title}\n${rows.join('')}`
}

/** Only refusals are an agent's own; a bug stops the command. */
function messageOf (error: unknown): string {
  const refusal = refusalOf(error)
  if (refusal === undefined || refusal.retry) throw error
  return refusal.message
}
