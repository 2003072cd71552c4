import type { Convergence } from '../../wire/generated/cluster.ts'
import { withServer } from '../channel-call.ts'
import { askConvergence } from '../cluster/cluster-client.ts'
import { behindOf, dateOf, formatBehind, formatRevision } from '../cluster/format-cursor.ts'
import { defineCommand } from '../command.ts'
import { formatJson } from '../json-output.ts'
import { formatTable, formatTime } from '../pretty.ts'
import { outputFlag, serverFlags } from '../socket-path.ts'

export const convergenceStatus = defineCommand({
  flags: { ...serverFlags, output: outputFlag },
  details: 'How it is known what an agent serves: `acknowledged` by itself; `written`, the last answer to one that polls;\n' +
    '`inferred`, the answer before that one. `waiting`: live and behind; `absent`: not heard of lately.',
  examples: ['assay status', 'assay status --output json'],
  async run (call) {
    const { flags, terminal } = call
    const convergence = await withServer(call, channel => askConvergence(channel, {}, { signal: terminal.signal }))
    if (flags.output === 'json') {
      const { cursor: head } = convergence
      const consumers = convergence.consumers.map(consumer => ({ ...consumer, behind: behindOf(head, consumer.cursor) }))
      terminal.out(`${formatJson({ ...convergence, consumers })}\n`)
    } else {
      terminal.out(formatConvergence(convergence))
    }
    return 0
  }
})

function formatConvergence ({ cursor: head, consumers, converged }: Convergence): string {
  const heading = `Log: ${formatRevision(head)}; ${converged ? 'every live agent is there' : 'not every live agent is there yet'}\n`
  if (consumers.length === 0) return `${heading}No attested agents found\n`
  return `${heading}\n${formatTable(['AGENT', 'STATE', 'REVISION', 'BEHIND', 'SEEN', 'WITHOUT SVID'], consumers.map(consumer => [
    consumer.agentId,
    consumer.state,
    formatRevision(consumer.cursor),
    formatBehind(behindOf(head, consumer.cursor)),
    formatSeen(dateOf(consumer.seenAt)),
    formatIds(consumer.unservedEntryIds)
  ]))}`
}

/** @returns the first few, and how many more there are */
function formatIds (ids: readonly string[]): string {
  const shown = ids.slice(0, 3).join(' ')
  return ids.length > 3 ? `${shown} and ${ids.length - 3} more` : shown
}

function formatSeen (date: Date | undefined): string { return date === undefined ? 'never' : formatTime(date) }
