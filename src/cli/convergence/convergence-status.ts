import type { ServedPolicies } from '../../wire/generated/agent-sync.ts'
import type { Convergence } from '../../wire/generated/cluster.ts'
import { watchConvergence } from '../cluster/cluster-client.ts'
import { behindOf, dateOf, formatBehind, formatRevision, shortId } from '../cluster/format-cursor.ts'
import { defineCommand } from '../command.ts'
import { formatJson } from '../json-output.ts'
import { formatTable, formatTime, printable } from '../pretty.ts'
import { withServers } from '../servers.ts'
import { outputFlag, replicaFlags } from '../socket-path.ts'
import { formatIds } from './consumers.ts'

export const convergenceStatus = defineCommand({
  flags: { ...replicaFlags, output: outputFlag },
  details: 'How it is known what an agent serves: `acknowledged` by itself; `written`, the last answer to one that polls;\n' +
    '`inferred`, the answer before that one. `waiting`: live and behind; `absent`: not heard of lately.',
  examples: ['assay status', 'assay status --output json'],
  async run (call) {
    const { flags, terminal } = call
    const convergence = await withServers(call, servers =>
      servers.ask(channel => watchConvergence(channel, { once: true }, { signal: terminal.signal, timeoutMs: 10_000 })))
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
  // Where no agent follows services there is nothing to say about it.
  const ofServices = (text: string) => consumers.some(({ mesh }) => mesh) ? [text] : []
  const ofPolicies = (text: string) => consumers.some(({ policies }) => policies !== undefined && !isIdle(policies)) ? [text] : []
  const headings = [
    'AGENT', 'STATE', 'REVISION', 'BEHIND', 'REPLICA', 'SEEN', ...ofServices('SERVICES'), ...ofPolicies('POLICIES'), 'WITHOUT SVID'
  ]
  return `${heading}\n${formatTable(headings, consumers.map(consumer => [
    consumer.agentId,
    consumer.state,
    formatRevision(consumer.cursor),
    formatBehind(behindOf(head, consumer.cursor)),
    consumer.replicaId === '' ? '-' : shortId(consumer.replicaId),
    formatSeen(dateOf(consumer.seenAt)),
    ...ofServices(consumer.mesh ? 'yes' : '-'),
    ...ofPolicies(formatServed(consumer.policies)),
    formatIds(consumer.unservedEntryIds)
  ]))}${consumers.map(formatRefused).join('')}`
}

/** Where no policies are active there is nothing to say about them. */
function isIdle ({ version, refusal }: ServedPolicies): boolean { return version === 0n && refusal === '' }

function formatServed (policies: ServedPolicies | undefined): string {
  if (policies === undefined || isIdle(policies)) return '-'
  return `${policies.version === 0n ? 'none' : policies.version}${policies.refusal === '' ? '' : ' (newer refused)'}`
}

function formatRefused ({ agentId, policies }: Convergence['consumers'][number]): string {
  if (policies === undefined || policies.refusal === '') return ''
  return `\n${printable(`${agentId} does not serve policies: ${policies.refusal}`)}\n`
}

function formatSeen (date: Date | undefined): string { return date === undefined ? 'never' : formatTime(date) }
