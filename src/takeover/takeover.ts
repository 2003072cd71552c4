import type { Channel } from '../rpc/channel.ts'
import type { Clock } from '../runtime/clock.ts'
import { SpiffeError } from '../spiffe/errors.ts'
import { clusterService, type ConsumerProgress } from '../wire/generated/cluster.ts'
import { Changes, type OnProgress } from './apply.ts'
import { isEmpty, namesOf, type AuthorityNames } from './authorities.ts'
import { raisedSequence, raiseSequence, readSequences } from './bundle-sequence.ts'
import { diffEntries } from './diff-entries.ts'
import { readDomain, type DomainState } from './domain-state.ts'
import { newJournal, readJournal, settledAt, writeJournal, type Journal } from './journal.ts'
import { planTakeover, type TakeoverPlan } from './plan.ts'

export interface TakeoverDeps {
  /** SPIRE's server, as an administrator. */
  readonly there: Channel
  /** Our server, as an administrator. */
  readonly ours: Channel
  /** File of the journal. */
  readonly file: string
  /** So that of several processes one at a time makes a step: a slower one would write its journal over the other's. */
  readonly lock: () => Promise<Disposable>
  readonly clock: Clock
  readonly signal: AbortSignal
  readonly onProgress?: OnProgress | undefined
}

export interface Looked {
  readonly there: DomainState
  readonly ours: DomainState
  readonly plan: TakeoverPlan
  readonly journal: Journal | undefined
  readonly at: Date
}

export interface RoundOptions {
  /** Goes on though somebody breaks. */
  readonly force?: boolean
  /** Begins a takeover where there is none. */
  readonly begin?: boolean
  /** Of one that begins: how long who follows bundles is given; by the bundle's refresh hint unless given. */
  readonly settleMs?: number | undefined
}

/** How long who follows bundles is given: agents ask every few seconds, partners as often as the bundle hints. */
const leastSettleMs = 60_000
const usualRefreshHintSeconds = 300
const timeoutMs = 10_000
/** SPIRE's agents ask every few seconds. */
const pollingMs = 30_000

/**
 * A trust domain's move from SPIRE's server to ours. Every step begins with a look at both servers and at the journal, writes there what it
 * is about to make, and makes it: a step may be repeated, and the next one knows what one that was killed has left.
 */
export class Takeover {
  readonly #deps: TakeoverDeps

  constructor (deps: TakeoverDeps) { this.#deps = deps }

  /** Changes nothing. @throws {SpiffeError} `trust_domain_differs`, `file_unusable`, `cluster_api_missing` where ours is not ours */
  async look (): Promise<Looked> {
    const { there: thereChannel, ours: oursChannel, file, clock, signal } = this.#deps
    const [there, ours, here, journal] = await Promise.all([
      readDomain(thereChannel, signal), readDomain(oursChannel, signal), this.#agentsHere(), readJournal(file)
    ])
    const domains = [there.bundle.trustDomain, ours.bundle.trustDomain, journal?.trustDomain ?? there.bundle.trustDomain]
    if (new Set(domains).size > 1) {
      const [spire, assay, state] = domains
      throw new SpiffeError('trust_domain_differs', `SPIRE's server is of ${spire}, ours of ${assay}, the state file of ${state}`)
    }
    const at = clock.now()
    return { there, ours, journal, at, plan: planTakeover(there, ours, { journal, here, at }) }
  }

  /**
   * One round: each bundle gets the other's authorities, our server gets what partners and, once everybody has had time to see the bundles,
   * entries SPIRE has. Begins the takeover where there is none.
   * @throws {SpiffeError} `takeover_blocked`, `takeover_over`, `takeover_refused`
   */
  async round (options: RoundOptions = {}): Promise<Looked> {
    using scope = new DisposableStack()
    scope.use(await this.#deps.lock())
    return await this.#round(options)
  }

  async #round (options: RoundOptions): Promise<Looked> {
    const looked = await this.look()
    const { plan, at } = looked
    if (looked.journal === undefined && options.begin !== true) throw this.#unknown()
    let journal = looked.journal ?? newJournal(plan.trustDomain, options.settleMs ?? usualSettleMs(looked.there), at)
    requireRunning(journal)
    if (options.force !== true) requireFree(plan)
    const { file } = this.#deps
    const save = async (change: Partial<Journal>) => {
      journal = { ...journal, ...change }
      await writeJournal(file, journal)
    }
    const { toThere, toHere } = plan.authorities
    if (looked.journal === undefined || !isEmpty(toThere) || !isEmpty(toHere)) {
      await save({
        published: { there: union(journal.published.there, namesOf(toThere)), here: union(journal.published.here, namesOf(toHere)) },
        // What is published later is what a rotation prepares, long before it signs.
        ...journal.phase === 'publishing' ? { publishedAt: at } : {}
      })
      await this.#changesHere().publish(toHere)
      await this.#changesThere().publish(toThere)
    }
    await this.#changesHere().retire(plan.outdated)
    await this.#keepAhead(save)
    await this.#copyPartners(looked, journal, save)
    if (settledAt(journal) <= at) await this.#copyEntries(plan, journal, save)
    await save({ lastRoundAt: at })
    return { ...looked, journal }
  }

  /**
   * From now on our server's entries count, and nothing is copied any more.
   * @throws {SpiffeError} `takeover_not_settled`, `takeover_agents_left`, `takeover_blocked`, `takeover_unknown`, `takeover_over`
   */
  async finish ({ force = false }: { readonly force?: boolean } = {}): Promise<Looked> {
    using scope = new DisposableStack()
    scope.use(await this.#deps.lock())
    const looked = await this.#round({ force })
    const { plan, journal } = looked
    if (journal?.phase !== 'open') {
      const from = settledAt(journal as Journal).toISOString()
      throw new SpiffeError('takeover_not_settled', `agents may move from ${from}: nothing has moved yet`)
    }
    const left = plan.agents.filter(({ place }) => place === 'there')
    if (left.length > 0 && !force) {
      throw new SpiffeError('takeover_agents_left', `${counted(left.length)} of SPIRE's would lose their server: ${listed(left)}`,
        { details: { agents: left.map(({ id }) => id) } })
    }
    await writeJournal(this.#deps.file, { ...journal, phase: 'finished' })
    return await this.look()
  }

  /**
   * Gives the trust domain back to SPIRE: of a finished takeover, what changed here since is copied back first; then, once no agent is here
   * any more, what was copied here goes. Our authorities stay in SPIRE's bundle until they end: its API takes none out.
   * @throws {SpiffeError} `takeover_agents_moved`, `takeover_unknown`, `takeover_over`, `takeover_refused`
   */
  async rollBack ({ force = false }: { readonly force?: boolean } = {}): Promise<Looked> {
    using scope = new DisposableStack()
    scope.use(await this.#deps.lock())
    const { file } = this.#deps
    let looked = await this.look()
    let { journal } = looked
    if (journal === undefined) throw this.#unknown()
    if (journal.phase === 'rolled_back') throw over(journal)
    if (journal.phase === 'finished') {
      const back = diffEntries(looked.ours.entries, looked.there.entries, new Set(journal.entries))
      const [conflict] = back.conflicts
      if (conflict !== undefined) {
        const { entry, with: other, why } = conflict
        throw new SpiffeError('takeover_refused', `entry ${entry.id} cannot go back to SPIRE: ${why} there: ${other.id}`)
      }
      const spire = this.#changesThere()
      await spire.publish(looked.plan.authorities.toThere)
      await spire.applyEntries(back)
      journal = { ...journal, phase: 'open', entries: [...new Set([...journal.entries, ...looked.ours.entries.map(({ id }) => id)])] }
      await writeJournal(file, journal)
      looked = await this.look()
    }
    const moved = looked.plan.agents.filter(({ place }) => place === 'here')
    if (moved.length > 0 && !force) {
      throw new SpiffeError('takeover_agents_moved', `${counted(moved.length)} here would lose their entries: ${listed(moved)}`,
        { details: { agents: moved.map(({ id }) => id) } })
    }
    const ours = this.#changesHere()
    await ours.removeEntries(journal.entries)
    await ours.removeRelationships(journal.relationships)
    await ours.removeBundles(journal.bundles)
    await writeJournal(file, { ...journal, phase: 'rolled_back' })
    return await this.look()
  }

  #changesHere (): Changes { return new Changes(this.#deps.ours, 'our server', this.#deps) }

  #changesThere (): Changes { return new Changes(this.#deps.there, 'SPIRE\'s server', this.#deps) }

  /** Partners take no bundle for newer that has a lower number: once they ask us, ours must have passed what SPIRE showed them. */
  async #keepAhead (save: (change: Partial<Journal>) => Promise<void>): Promise<void> {
    const { there, ours, signal } = this.#deps
    const wanted = raisedSequence(await readSequences(there, ours, { signal, timeoutMs }))
    if (wanted === undefined) return
    await save({ sequenceRaisedTo: `${wanted}` })
    await raiseSequence(ours, wanted, { signal, timeoutMs })
  }

  async #copyPartners ({ plan, ours, there }: Looked, journal: Journal, save: (change: Partial<Journal>) => Promise<void>): Promise<void> {
    const made = new Set(journal.bundles)
    // Nobody follows these but who set them at SPIRE.
    const changed = there.federatedBundles.filter(bundle => {
      const copy = ours.federatedBundles.find(({ trustDomain }) => trustDomain === bundle.trustDomain)
      const followed = there.relationships.some(({ trustDomain }) => trustDomain === bundle.trustDomain)
      return copy !== undefined && !followed && made.has(bundle.trustDomain) && contentOf(copy) !== contentOf(bundle)
    })
    const names = plan.relationships.map(({ trustDomain }) => trustDomain)
    const bundles = [...plan.bundles.map(({ trustDomain }) => trustDomain), ...plan.relationships.flatMap(({ trustDomain }) =>
      ours.federatedBundles.some(bundle => bundle.trustDomain === trustDomain) ? [] : [trustDomain])]
    if (names.length + bundles.length > 0) {
      await save({ relationships: added(journal.relationships, names), bundles: added(journal.bundles, bundles) })
    }
    const changes = this.#changesHere()
    await changes.setBundles([...plan.bundles, ...changed])
    await changes.createRelationships(plan.relationships)
  }

  async #copyEntries ({ entries }: TakeoverPlan, journal: Journal, save: (change: Partial<Journal>) => Promise<void>): Promise<void> {
    const { create, remove } = entries
    if (journal.phase === 'publishing' || create.length > 0) {
      await save({ phase: 'open', entries: added(journal.entries, create.map(({ id }) => id ?? '')) })
    }
    await this.#changesHere().applyEntries(entries)
    if (remove.length === 0) return
    const gone = new Set(remove)
    await save({ entries: added(journal.entries, create.map(({ id }) => id ?? '')).filter(id => !gone.has(id)) })
  }

  async #agentsHere (): Promise<ReadonlySet<string>> {
    const { ours, clock, signal } = this.#deps
    const here = new Set<string>()
    for await (const { consumers } of ours.client(clusterService).watchConvergence({ once: true }, { signal, timeoutMs })) {
      for (const consumer of consumers) if (isHere(consumer, clock.now())) here.add(consumer.agentId)
    }
    return here
  }

  #unknown (): SpiffeError { return new SpiffeError('takeover_unknown', `${this.#deps.file} is not there: no takeover has begun`) }
}

/** What an agent has it keeps in our server's books when it goes; that it is connected, or asks now and then, is another matter. */
function isHere ({ state, replicaId, seenAt }: ConsumerProgress, at: Date): boolean {
  if (state === 'acknowledged') return replicaId !== ''
  return state === 'waiting' || (state !== 'absent' && at.getTime() - Number(seenAt) < pollingMs)
}

function usualSettleMs ({ bundle }: DomainState): number {
  return Math.max(leastSettleMs, 2_000 * (bundle.refreshHintSeconds ?? usualRefreshHintSeconds))
}

function requireRunning (journal: Journal): void {
  if (journal.phase === 'finished' || journal.phase === 'rolled_back') throw over(journal)
}

function over ({ phase }: Journal): SpiffeError {
  return new SpiffeError('takeover_over', `the takeover is ${phase === 'finished' ? 'finished' : 'rolled back'}`)
}

function requireFree ({ findings }: TakeoverPlan): void {
  const blocking = findings.filter(({ kind }) => kind === 'blocks')
  if (blocking.length === 0) return
  const named = blocking.slice(0, mostNamed).map(({ code, about, message }) => `${code} ${about}: ${message}`)
  throw new SpiffeError('takeover_blocked', `${named.join('; ')}${blocking.length > mostNamed ? '; …' : ''}`,
    { details: { findings: blocking.slice(0, mostNamed) } })
}

const mostNamed = 10

function counted (count: number): string { return `${count} agent${count === 1 ? '' : 's'}` }

function listed (agents: readonly { readonly id: string }[]): string {
  const names = agents.slice(0, mostNamed).map(({ id }) => id).join(', ')
  return agents.length > mostNamed ? `${names} and ${agents.length - mostNamed} more` : names
}

function union (a: AuthorityNames, b: AuthorityNames): { x509: string[], jwt: string[] } {
  return { x509: added(a.x509, b.x509), jwt: added(a.jwt, b.jwt) }
}

function added (names: readonly string[], more: readonly string[]): string[] { return [...new Set([...names, ...more])] }

function contentOf ({ x509Authorities, jwtAuthorities }: DomainState['federatedBundles'][number]): string {
  return JSON.stringify([
    x509Authorities.map(({ asn1 }) => Buffer.from(asn1).toString('base64')).toSorted(),
    jwtAuthorities.map(({ keyId, publicKey }) => `${keyId} ${Buffer.from(publicKey).toString('base64')}`).toSorted()
  ])
}
