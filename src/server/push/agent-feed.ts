import { Waiter } from '../../runtime/waiter.ts'
import type { Bundle } from '../../spiffe/bundle.ts'
import type { Entry } from '../../spiffe/entry.ts'
import type { Revocation } from '../../spiffe/revocation.ts'
import type { TrustDomain } from '../../spiffe/trust-domain.ts'
import type { Cursor } from '../../storage/change-log.ts'
import type { ServedPolicyVersion } from '../../storage/progress-store.ts'
import type { AgentView } from '../node-aliases.ts'
import type { Registry } from '../registry.ts'
import type { MeshChange } from '../service-index.ts'
import type { Touched } from '../touches.ts'
import type { PolicyState } from '../policy-index.ts'
import { nothingOfServices, type MeshFeed, type MeshStep } from './mesh-feed.ts'
import type { PolicyStep, PolicySteps } from './policy-feed.ts'

/** What an agent is told next. */
export interface FeedStep {
  readonly cursor: Cursor
  readonly snapshot: boolean
  readonly entries: readonly Entry[]
  readonly removedEntryIds: readonly string[]
  readonly bundles: readonly Bundle[]
  readonly removedTrustDomains: readonly TrustDomain[]
  readonly mesh: MeshStep
  /** Absent: none stands, in a snapshot; nothing changed, otherwise. */
  readonly revocations?: RevocationStep
  /** Absent: nothing changed, or the agent does not follow policies. */
  readonly policies?: PolicyStep
}

export interface RevocationStep {
  /** What is not named does not stand any more. */
  readonly whole: boolean
  readonly revocations: readonly Revocation[]
  readonly removedIds: readonly string[]
}

/** What touches a stream that nobody reads is put together again and again. */
const mostSets = 64

/** What a feed is told of policies from. */
export interface PolicySource {
  /** Another object after each change. */
  state (): PolicyState
  readonly steps: PolicySteps
}

export interface FeedSource {
  readonly registry: Registry
  readonly trustDomain: TrustDomain
  cursor (): Cursor
  /** As the replica has it now; selectors may change while a stream is open. */
  agent (): AgentView
  bundleOf (trustDomain: TrustDomain): Bundle | undefined
  /** Of an agent that follows services. */
  readonly mesh?: MeshFeed | undefined
  /** By id; another map after each change. */
  revocations (): ReadonlyMap<string, Revocation>
  /** Of an agent that follows policies. */
  readonly policies?: PolicySource | undefined
  /** Wakes a stream when it is its turn. */
  soon (wake: () => void): void
}

export interface KnownToAgent {
  readonly revocations?: ReadonlyMap<string, Revocation> | undefined
  readonly policies?: PolicyState | undefined
  /** What it decides by, of one that follows policies. */
  readonly served?: ServedPolicyVersion | undefined
}

/**
 * What one agent knows and what it must still be told. Touches pile up while the stream is busy and are answered with the state of that
 * moment: a slow agent skips what it had no time for.
 */
export class AgentFeed {
  readonly #source: FeedSource
  /** By id: what the agent has, once it took over what was sent. */
  readonly #sent = new Map<string, Entry>()
  readonly #bundles = new Map<TrustDomain, Bundle>()
  /** How many of the entries federate with each domain. */
  readonly #federations = new Map<TrustDomain, number>()
  /** Must be looked at: the agent may have them, or must get them. What touches many agents alike is shared. */
  #touched: Array<ReadonlySet<string>> = []
  /** All must be compared, and what was touched besides. */
  #all: boolean
  #snapshot: boolean
  #bundlesDue = true
  #cursorDue = false
  /** As the agent was told last; `undefined`: it must be told all. */
  #revocations: ReadonlyMap<string, Revocation> | undefined
  /** As the agent was told last; `undefined`: it must be told all. */
  #policies: PolicyState | undefined
  #failure: Error | undefined
  #acknowledged: Cursor | undefined
  #unserved: readonly string[] = []
  #served: ServedPolicyVersion | undefined
  #told: Cursor | undefined
  readonly #waiter = new Waiter()
  readonly #wake = () => this.#waiter.wake()

  /**
   * @param missed what touched the agent since it was last told; `undefined`: it must be told everything
   * @param known.revocations what the agent knows of; `undefined`: that is not known
   * @param known.policies the same of policies
   */
  constructor (source: FeedSource, missed: Touched | undefined, known: KnownToAgent = {}) {
    this.#source = source
    this.#revocations = known.revocations
    this.#policies = known.policies
    this.#served = known.served
    this.#all = this.#snapshot = missed === undefined || missed === 'all'
    if (missed === undefined || missed === 'all') return
    this.touch(missed)
    for (const entry of this.#authorized()) if (!missed.has(entry.id)) this.#hold(entry)
  }

  /** Entries the agent has been told of. */
  get known (): number { return this.#sent.size }
  /** Whether the agent follows services too. */
  get mesh (): boolean { return this.#source.mesh !== undefined }

  touch (touched: Touched): void {
    if (touched === 'all') this.#all = true
    else if (touched.size > 0) this.#touched.push(touched)
    if (this.#touched.length > mostSets) this.#touched = [unionOf(this.#touched)]
    this.#source.soon(this.#wake)
  }

  /** These changed or went; what does not concern the agent is left out. */
  touchBundles (changed: ReadonlySet<TrustDomain>): void {
    const concerned = changed.has(this.#source.trustDomain) || [...changed].some(domain => this.#federations.has(domain))
    if (!concerned) return
    this.#bundlesDue = true
    this.#source.soon(this.#wake)
  }

  touchServices (change: MeshChange): void {
    this.#source.mesh?.touch(change)
    this.#source.soon(this.#wake)
  }

  /** A revocation came, changed or went. */
  touchRevocations (): void { this.#source.soon(this.#wake) }

  /** Another set of policies is active, or others are meant by the selectors in it. */
  touchPolicies (): void { if (this.#source.policies !== undefined) this.#source.soon(this.#wake) }

  /** The log began anew: the agent must learn at least where it stands. */
  touchCursor (): void {
    this.#cursorDue = true
    this.#source.soon(this.#wake)
  }

  /** Ends the stream: `next` throws this from now on. */
  fail (error: Error): void {
    this.#failure = error
    this.#waiter.wake()
  }

  /** @param policies what the agent decides by; `undefined`: it said nothing of it */
  acknowledge (cursor: Cursor, unservedEntryIds: readonly string[], policies?: ServedPolicyVersion): void {
    this.#acknowledged = cursor
    this.#unserved = unservedEntryIds
    if (this.#source.policies !== undefined && policies !== undefined) this.#served = policies
  }

  /** What the agent decides by, as it said last; `undefined`: it does not follow policies. */
  get served (): ServedPolicyVersion | undefined { return this.#served }

  /** Entries whose SVIDs the agent could not have. */
  get unservedEntryIds (): readonly string[] { return this.#unserved }

  /** Up to where the agent has everything that concerns it: what it was told of last, or, when nothing is left to tell, the log's end. */
  get reached (): Cursor | undefined {
    const now = this.#source.cursor()
    const all = !this.#due && this.#told?.epoch === this.#acknowledged?.epoch && this.#told?.number === this.#acknowledged?.number
    return all && this.#acknowledged?.epoch === now.epoch ? now : this.#acknowledged
  }

  /** What the agent must be told now; `undefined` when it knows everything. @throws what `fail` was given */
  next (): FeedStep | undefined {
    if (this.#failure !== undefined) throw this.#failure
    const cursor = this.#source.cursor()
    const snapshot = this.#snapshot
    const { entries, removedEntryIds } = this.#takeEntries()
    const federationChanged = entries.length + removedEntryIds.length > 0
    const { bundles, removedTrustDomains } = this.#takeBundles(federationChanged || snapshot)
    const mesh = this.#source.mesh?.take(snapshot) ?? nothingOfServices
    const revocations = this.#takeRevocations(snapshot)
    const policies = this.#takePolicies(snapshot)
    const something = snapshot || this.#cursorDue || federationChanged || mesh !== nothingOfServices || revocations !== undefined ||
      policies !== undefined || bundles.length + removedTrustDomains.length > 0
    this.#snapshot = this.#cursorDue = false
    if (!something) return undefined
    this.#told = cursor
    return {
      cursor, snapshot, entries, removedEntryIds, bundles, removedTrustDomains, mesh, ...revocations === undefined ? {} : { revocations },
      ...policies === undefined ? {} : { policies }
    }
  }

  /** Settles when there may be something to tell. */
  async untilTouched (signal: AbortSignal): Promise<void> {
    if (this.#due || this.#failure !== undefined || signal.aborted) return
    await this.#waiter.wait(signal)
  }

  get #due (): boolean {
    return this.#bundlesDue || this.#cursorDue || this.#all || this.#touched.length > 0 || this.#source.mesh?.due === true ||
      this.#revocations !== this.#source.revocations() || this.#policies !== this.#source.policies?.state()
  }

  #takeEntries (): { entries: Entry[], removedEntryIds: string[] } {
    const touched = this.#touched
    const { registry } = this.#source
    const authorizes = registry.authorizes(this.#source.agent())
    const all = this.#all ? new Map(this.#authorized().map(entry => [entry.id, entry])) : undefined
    this.#touched = []
    this.#all = false
    const entries: Entry[] = []
    const removedEntryIds: string[] = []
    const put = (entry: Entry) => {
      const before = this.#sent.get(entry.id)
      if (before === entry) return
      if (before !== undefined) this.#drop(before)
      this.#hold(entry)
      entries.push(entry)
    }
    if (all !== undefined) {
      for (const entry of all.values()) put(entry)
      touched.push(new Set(this.#sent.keys().filter(id => !all.has(id))))
    }
    for (const id of unionOf(touched)) {
      const entry = registry.get(id)
      if (entry !== undefined && authorizes(entry)) {
        put(entry)
        continue
      }
      const before = this.#sent.get(id)
      if (before !== undefined) this.#drop(before)
      // Also what a resuming agent may hold without having been told on this stream; a snapshot leaves out what is gone.
      if (!this.#snapshot) removedEntryIds.push(id)
    }
    return { entries, removedEntryIds }
  }

  #takeBundles (federationChanged: boolean): { bundles: Bundle[], removedTrustDomains: TrustDomain[] } {
    const bundles: Bundle[] = []
    const removedTrustDomains: TrustDomain[] = []
    if (!this.#bundlesDue && !federationChanged) return { bundles, removedTrustDomains }
    this.#bundlesDue = false
    const wanted = new Set<TrustDomain>([this.#source.trustDomain, ...this.#federations.keys()])
    for (const trustDomain of wanted) {
      const bundle = this.#source.bundleOf(trustDomain)
      if (bundle === undefined || this.#bundles.get(trustDomain) === bundle) continue
      this.#bundles.set(trustDomain, bundle)
      bundles.push(bundle)
    }
    for (const trustDomain of this.#bundles.keys()) {
      if (wanted.has(trustDomain) && this.#source.bundleOf(trustDomain) !== undefined) continue
      this.#bundles.delete(trustDomain)
      removedTrustDomains.push(trustDomain)
    }
    return { bundles, removedTrustDomains }
  }

  #takeRevocations (snapshot: boolean): RevocationStep | undefined {
    const [before, now] = [this.#revocations, this.#source.revocations()]
    this.#revocations = now
    if (snapshot || before === undefined) {
      const whole = { whole: true, revocations: [...now.values()], removedIds: [] }
      return snapshot && now.size === 0 ? undefined : whole
    }
    if (before === now) return undefined
    const revocations = [...now.values()].filter(revocation => before.get(revocation.id) !== revocation)
    const removedIds = [...before.keys()].filter(id => !now.has(id))
    return revocations.length + removedIds.length === 0 ? undefined : { whole: false, revocations, removedIds }
  }

  #takePolicies (snapshot: boolean): PolicyStep | undefined {
    const { policies } = this.#source
    const before = snapshot ? undefined : this.#policies
    this.#policies = policies?.state()
    return this.#policies === undefined ? undefined : policies?.steps.between(before, this.#policies)
  }

  #hold (entry: Entry): void {
    this.#sent.set(entry.id, entry)
    for (const domain of entry.federatesWith) this.#federations.set(domain, (this.#federations.get(domain) ?? 0) + 1)
  }

  #drop (entry: Entry): void {
    this.#sent.delete(entry.id)
    for (const domain of entry.federatesWith) {
      const left = (this.#federations.get(domain) ?? 0) - 1
      if (left > 0) this.#federations.set(domain, left)
      else this.#federations.delete(domain)
    }
  }

  #authorized (): readonly Entry[] { return this.#source.registry.authorizedEntries(this.#source.agent()) }
}

function unionOf (sets: ReadonlyArray<ReadonlySet<string>>): ReadonlySet<string> {
  const [first = new Set<string>(), ...others] = sets
  return others.length === 0 ? first : new Set([...first, ...others.flatMap(set => [...set])])
}
