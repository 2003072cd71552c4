import { SpiffeError } from '../spiffe/errors.ts'
import { Changes } from './apply.ts'
import { namesOf } from './authorities.ts'
import { diffEntries } from './diff-entries.ts'
import { added, type KeptJournal } from './kept-journal.ts'
import { union } from './round.ts'
import type { Looked, TakeoverServers } from './look.ts'

/**
 * What changed at our server since the takeover was finished goes to SPIRE; then the takeover is open again.
 * @throws {SpiffeError} `takeover_refused`
 */
export async function copyBack ({ plan, ours, there }: Looked, journal: KeptJournal, servers: TakeoverServers): Promise<void> {
  const { entries, published } = journal.current
  const back = diffEntries(ours.entries, there.entries, new Set(entries))
  const [conflict] = back.conflicts
  if (conflict !== undefined) {
    const { entry, with: other, why } = conflict
    throw new SpiffeError('takeover_refused', `entry ${entry.id} cannot go back to SPIRE: ${why} there: ${other.id}`)
  }
  const { toThere } = plan.authorities
  await journal.save({ published: { ...published, there: union(published.there, namesOf(toThere)) } })
  const changes = new Changes(servers.there, 'SPIRE\'s server', servers)
  await changes.publish(toThere)
  await changes.applyEntries(back)
  await journal.save({ phase: 'open', entries: added(entries, ours.entries.map(({ id }) => id)) })
}

/** What was copied to our server goes. @throws {SpiffeError} `takeover_refused` */
export async function takeAway (journal: KeptJournal, servers: TakeoverServers): Promise<void> {
  const here = new Changes(servers.ours, 'our server', servers)
  await here.removeEntries(journal.current.entries)
  await here.removeRelationships(journal.current.relationships)
  await here.removeBundles(journal.current.bundles)
  await journal.save({ phase: 'rolled_back' })
}
