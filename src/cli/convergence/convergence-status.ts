import type { MeshStatus } from '../../wire/generated/agent-sync.ts'
import type { ServedPolicies } from '../../wire/generated/agent-sync.ts'
import type { Convergence } from '../../wire/generated/cluster.ts'
import { watchConvergence } from '../cluster/cluster-client.ts'
import { behindOf, dateOf, formatBehind, formatRevision, shortId } from '../cluster/format-cursor.ts'
import { defineCommand } from '../command.ts'
import { formatJson } from '../json-output.ts'
import { formatMeshStatus, warnOfRefusals } from '../mesh/format-mesh-status.ts'
import { formatTable, formatTime, printable } from '../pretty.ts'
import { tellFailure } from '../refusal.ts'
import { withServers } from '../servers.ts'
import { outputFlag, replicaFlags } from '../socket-path.ts'
import { formatIds } from './consumers.ts'
import { nodeFlags, readNodeStatus } from './node-status.ts'

export const convergenceStatus = defineCommand({
  flags: { ...replicaFlags, ...nodeFlags, output: outputFlag },
  details: 'How it is known what an agent serves: `acknowledged` by itself; `written`, the last answer to one that polls;\n' +
    '`inferred`, the answer before that one. `waiting`: live and behind; `absent`: not heard of lately.\n' +
    'On a node whose agent runs the mesh the node\'s proxy follows, as `assay mesh status` shows it; without a server there it is all.',
  examples: ['assay status', 'assay status --output json'],
  async run (call) {
    const { flags, terminal } = call
    const [asked, node] = await Promise.all([
      withServers(call, servers =>
        servers.ask(channel => watchConvergence(channel, { once: true }, { signal: terminal.signal, timeoutMs: 10_000 })))
        .then(convergence => ({ convergence }), (failure: unknown) => ({ failure })),
      readNodeStatus(flags.xdsSocketPath, terminal)
    ])
    if ('failure' in asked && node === undefined) throw asked.failure
    const convergence = 'convergence' in asked ? asked.convergence : undefined
    if (flags.output === 'json') terminal.out(`${formatJson({ ...convergence && encodeConvergence(convergence), node })}\n`)
    else terminal.out([convergence && formatConvergence(convergence), node && formatNode(node)].filter(Boolean).join('\n'))
    if (node !== undefined) warnOfRefusals(terminal, node)
    return 'failure' in asked ? tellFailure(terminal, asked.failure, flags.output, ['assay', 'status']) : 0
  }
})

function encodeConvergence (convergence: Convergence): object {
  const { cursor: head, consumers } = convergence
  return { ...convergence, consumers: consumers.map(consumer => ({ ...consumer, behind: behindOf(head, consumer.cursor) })) }
}

function formatNode (node: MeshStatus): string { return `This node\n${formatMeshStatus(node)}` }

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
