import type { ConsumerProgress } from '../../wire/generated/cluster.ts'
import { printable } from '../pretty.ts'

/**
 * Of which SVIDs an agent must not be without to have a change: of these entries, of `any` of its own, or of none in particular; or which
 * version of policies it must serve, or a later one.
 */
export type MustServe = ReadonlySet<string> | 'any' | { readonly policyVersion: number } | undefined

/** How it is known that an agent has a change (decision 8): it said so, a later call proved it, or so much time has passed. */
const hasIt: ReadonlySet<string> = new Set(['acknowledged', 'inferred', 'timed'])

/** Whether it is live and does not have the change. Who is absent is not waited for; a state of later versions proves nothing. */
export function lacks (consumer: ConsumerProgress, mustServe: MustServe): boolean {
  if (consumer.state === 'absent') return false
  return !hasIt.has(consumer.state) || lackOf(consumer, mustServe) !== undefined
}

/** One line per agent: how it is known, who, and what it lacks. */
export function formatConsumers (consumers: readonly ConsumerProgress[], mustServe: MustServe): string {
  return consumers.map(consumer => {
    const { agentId, state } = consumer
    const lack = lackOf(consumer, mustServe)
    return `${printable(`${state.padEnd(12)}  ${agentId}${lack === undefined ? '' : `  ${lack.replace(/^no /, 'without an ')}`}`)}\n`
  }).join('')
}

/** The agents' names in one clause, the first few of them. */
export function nameConsumers (consumers: readonly ConsumerProgress[], mustServe: MustServe): string {
  const named = consumers.slice(0, mostNamed).map(consumer => {
    const lack = lackOf(consumer, mustServe)
    return `${consumer.agentId} (${consumer.state}${lack === undefined ? '' : `, ${lack}`})`
  })
  return `${named.join(', ')}${consumers.length > mostNamed ? ` and ${consumers.length - mostNamed} more` : ''}`
}

/** The first few ids, and how many more there are. */
export function formatIds (ids: readonly string[]): string {
  const shown = ids.slice(0, 3).join(' ')
  return ids.length > 3 ? `${shown} and ${ids.length - 3} more` : shown
}

const mostNamed = 10

/** What an agent that has taken a change over does not serve of it. */
function lackOf ({ state, unservedEntryIds, policies }: ConsumerProgress, mustServe: MustServe): string | undefined {
  if (typeof mustServe === 'object' && 'policyVersion' in mustServe) {
    // Of one that has not taken it over yet there is nothing to tell.
    if (!hasIt.has(state) || Number(policies?.version ?? 0) >= mustServe.policyVersion) return undefined
    const instead = policies === undefined || policies.version === 0n ? 'none' : `version ${policies.version}`
    return `serves ${instead} of the policies${policies === undefined || policies.refusal === '' ? '' : `, refused ${policies.refusal}`}`
  }
  const without = unserved(unservedEntryIds, mustServe)
  return without.length === 0 ? undefined : `no SVID for ${formatIds(without)}`
}

function unserved (entryIds: readonly string[], mustServe: ReadonlySet<string> | 'any' | undefined): readonly string[] {
  if (mustServe === undefined) return []
  return mustServe === 'any' ? entryIds : entryIds.filter(id => mustServe.has(id))
}
