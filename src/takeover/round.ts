import type { Clock } from '../runtime/clock.ts'
import { Changes } from './apply.ts'
import { isEmpty, namesOf, signsBy, type AuthorityNames } from './authorities.ts'
import { raisedSequence, raiseSequence, readSequences } from './bundle-sequence.ts'
import type { DomainState } from './domain-state.ts'
import { settledAt } from './journal.ts'
import { added, type KeptJournal } from './kept-journal.ts'
import type { Looked, TakeoverDeps, TakeoverServers } from './look.ts'
import { seenAgent } from './seen-agents.ts'

const timeoutMs = 10_000

/** Makes equal what a look found different, each part in the journal before it is made. @throws {SpiffeError} `takeover_refused` */
export async function makeEqual (looked: Looked, journal: KeptJournal, deps: TakeoverServers & Pick<TakeoverDeps, 'clock'>): Promise<void> {
  const { plan, at } = looked
  const here = new Changes(deps.ours, 'our server', deps)
  await publish(looked, journal, here, new Changes(deps.there, 'SPIRE\'s server', deps), deps.clock)
  await here.retire(plan.outdated)
  await keepAhead(journal, deps)
  await copyPartners(looked, journal, here)
  if (settledAt(journal.current) <= deps.clock.now()) await copyEntries(looked, journal, here)
  await journal.save({ lastRoundAt: at, agents: looked.plan.agents.map(seenAgent) })
}

async function publish (
  { journal: before, plan, ours, at }: Looked, journal: KeptJournal, here: Changes, there: Changes, clock: Clock
): Promise<void> {
  const { toThere, toHere } = plan.authorities
  if (before !== undefined && isEmpty(toThere) && isEmpty(toHere)) return
  const { phase, published } = journal.current
  // What is published later is what a rotation prepares, long before it signs; or our server has lost its keys, and signs by new ones.
  const isUnseen = phase === 'publishing' || signsBy(toThere, ours.active)
  await journal.save({
    published: { there: union(published.there, namesOf(toThere)), here: union(published.here, namesOf(toHere)) },
    ...isUnseen ? { phase: 'publishing', publishedAt: at } : {}
  })
  await here.publish(toHere)
  await there.publish(toThere)
  // Nobody could see it before, however long that took.
  if (isUnseen) await journal.save({ publishedAt: clock.now() })
}

/** Partners take no bundle for newer that has a lower number: once they ask us, ours must have passed what SPIRE showed them. */
async function keepAhead (journal: KeptJournal, { there, ours, signal }: TakeoverServers): Promise<void> {
  const wanted = raisedSequence(await readSequences(there, ours, { signal, timeoutMs }))
  if (wanted === undefined) return
  await journal.save({ sequenceRaisedTo: `${wanted}` })
  await raiseSequence(ours, wanted, { signal, timeoutMs })
}

async function copyPartners ({ plan, ours, there }: Looked, journal: KeptJournal, here: Changes): Promise<void> {
  const { relationships, bundles } = journal.current
  const made = new Set(bundles)
  // Nobody follows these but who set them at SPIRE.
  const changed = there.federatedBundles.filter(bundle => {
    const copy = ours.federatedBundles.find(({ trustDomain }) => trustDomain === bundle.trustDomain)
    const followed = there.relationships.some(({ trustDomain }) => trustDomain === bundle.trustDomain)
    return copy !== undefined && !followed && made.has(bundle.trustDomain) && contentOf(copy) !== contentOf(bundle)
  })
  const names = plan.relationships.map(({ trustDomain }) => trustDomain)
  const missing = [...plan.bundles.map(({ trustDomain }) => trustDomain), ...names.filter(trustDomain =>
    !ours.federatedBundles.some(bundle => bundle.trustDomain === trustDomain))]
  if (names.length + missing.length > 0) {
    await journal.save({ relationships: added(relationships, names), bundles: added(bundles, missing) })
  }
  await here.setBundles([...plan.bundles, ...changed])
  await here.createRelationships(plan.relationships)
}

async function copyEntries ({ plan: { entries } }: Looked, journal: KeptJournal, here: Changes): Promise<void> {
  const { create, remove } = entries
  if (journal.current.phase === 'publishing' || create.length > 0) {
    await journal.save({ phase: 'open', entries: added(journal.current.entries, create.map(({ id }) => id ?? '')) })
  }
  await here.applyEntries(entries)
  if (remove.length === 0) return
  const gone = new Set(remove)
  await journal.save({ entries: journal.current.entries.filter(id => !gone.has(id)) })
}

export function union (a: AuthorityNames, b: AuthorityNames): { x509: string[], jwt: string[] } {
  return { x509: added(a.x509, b.x509), jwt: added(a.jwt, b.jwt) }
}

function contentOf ({ x509Authorities, jwtAuthorities }: DomainState['federatedBundles'][number]): string {
  return JSON.stringify([
    x509Authorities.map(({ asn1 }) => Buffer.from(asn1).toString('base64')).toSorted(),
    jwtAuthorities.map(({ keyId, publicKey }) => `${keyId} ${Buffer.from(publicKey).toString('base64')}`).toSorted()
  ])
}
