import type { ConsumerProgress } from '../../wire/generated/cluster.ts'
import { printable } from '../pretty.ts'

/** Of which SVIDs an agent must not be without to have a change: of these entries, of `any` of its own, or of none in particular. */
export type MustServe = ReadonlySet<string> | 'any' | undefined

/** How it is known that an agent has a change (decision 8): it said so, a later call proved it, or so much time has passed. */
const hasIt: ReadonlySet<string> = new Set(['acknowledged', 'inferred', 'timed'])

/** Whether it is live and does not have the change. Who is absent is not waited for; a state of later versions proves nothing. */
export function lacks ({ state, unservedEntryIds }: ConsumerProgress, mustServe: MustServe): boolean {
  if (state === 'absent') return false
  return !hasIt.has(state) || unserved(unservedEntryIds, mustServe).length > 0
}

/** One line per agent: how it is known, who, and what it lacks. */
export function formatConsumers (consumers: readonly ConsumerProgress[], mustServe: MustServe): string {
  return consumers.map(({ agentId, state, unservedEntryIds }) => {
    const without = unserved(unservedEntryIds, mustServe)
    return `${printable(`${state.padEnd(12)}  ${agentId}${without.length === 0 ? '' : `  without an SVID for ${formatIds(without)}`}`)}\n`
  }).join('')
}

/** The agents' names in one clause, the first few of them. */
export function nameConsumers (consumers: readonly ConsumerProgress[], mustServe: MustServe): string {
  const named = consumers.slice(0, mostNamed).map(({ agentId, state, unservedEntryIds }) => {
    const without = unserved(unservedEntryIds, mustServe)
    return `${agentId} (${state}${without.length === 0 ? '' : `, no SVID for ${formatIds(without)}`})`
  })
  return `${named.join(', ')}${consumers.length > mostNamed ? ` and ${consumers.length - mostNamed} more` : ''}`
}

/** The first few ids, and how many more there are. */
export function formatIds (ids: readonly string[]): string {
  const shown = ids.slice(0, 3).join(' ')
  return ids.length > 3 ? `${shown} and ${ids.length - 3} more` : shown
}

const mostNamed = 10

function unserved (entryIds: readonly string[], mustServe: MustServe): readonly string[] {
  if (mustServe === undefined) return []
  return mustServe === 'any' ? entryIds : entryIds.filter(id => mustServe.has(id))
}
