import type { OwnBundle } from '../../ca/own-bundle.ts'
import type { Clock } from '../../runtime/clock.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import type { SpiffeId } from '../../spiffe/spiffe-id.ts'
import type { TrustDomain } from '../../spiffe/trust-domain.ts'
import { hasReached, type Cursor } from '../../storage/change-log.ts'
import { ChangeHistory } from '../replication/change-history.ts'
import type { Replica } from '../replication/replica.ts'
import type { StandAside } from '../replication/stand-aside.ts'
import { AgentFeed } from './agent-feed.ts'
import { isEmpty, MeshFeed, MeshSteps } from './mesh-feed.ts'
import type { MeshChange } from '../service-index.ts'
import type { Progress, ProgressReporter } from './progress-reporter.ts'
import type { ServedPolicyVersion } from '../../storage/progress-store.ts'
import { PolicySteps } from './policy-feed.ts'
import type { PolicyState } from '../policy-index.ts'
import { Turns } from './turns.ts'

const checkEveryMs = 1_000
const reportEveryRounds = 5
/**
 * Of one agent. One that comes back has a second for a moment, and more where a network swallowed its connections: those end within one and
 * a half minutes.
 */
const mostStreams = 64

export interface AgentFeedsDeps {
  readonly replica: Replica
  readonly aside: StandAside
  readonly ownBundle: OwnBundle
  readonly trustDomain: TrustDomain
}

export interface OpenOptions {
  readonly mesh?: boolean
  readonly policies?: ServedPolicyVersion & { readonly revision: string } | undefined
}

/** The open streams of this replica's agents, each told of what touches its agent. */
export class AgentFeeds {
  readonly #deps: AgentFeedsDeps
  readonly #open = new Map<SpiffeId, Set<AgentFeed>>()
  readonly #turns = new Turns()
  readonly history: ChangeHistory
  readonly #meshFeeds = new Set<AgentFeed>()
  readonly #meshSteps: MeshSteps
  readonly #meshHistory: ChangeHistory<'services' | 'endpoints'>
  /** Since then no revocation came, changed or went. */
  #revocationsSince: number
  readonly #policySteps = new PolicySteps()
  /** Since then neither the active policies changed nor who is meant by their selectors. */
  #policiesSince: number

  constructor (deps: AgentFeedsDeps) {
    this.#deps = deps
    this.history = new ChangeHistory(deps.replica.cursor)
    this.#meshSteps = new MeshSteps(deps.replica.services)
    this.#meshHistory = new ChangeHistory(deps.replica.cursor)
    let { epoch } = deps.replica.cursor
    this.#revocationsSince = this.#policiesSince = deps.replica.cursor.number
    deps.replica.onChange(({ cursor, touched, bundles, agents, revocations, policies, mesh }) => {
      this.history.add(cursor, touched)
      this.#meshHistory.add(cursor, isEmpty(mesh) ? new Map() : new Map([['services', mesh.services], ['endpoints', mesh.endpoints]]))
      for (const [agent, touch] of touched) this.#each(agent, feed => feed.touch(touch))
      // A ban or an eviction must be noticed though no entry changed.
      for (const agent of agents) this.#each(agent, feed => feed.touch(new Set()))
      if (bundles.size > 0) for (const [, feed] of this.#all()) feed.touchBundles(bundles)
      if (!isEmpty(mesh)) for (const feed of this.#meshFeeds) feed.touchServices(mesh)
      if (revocations || cursor.epoch !== epoch) this.#revocationsSince = cursor.number
      if (revocations) for (const [, feed] of this.#all()) feed.touchRevocations()
      if (policies || cursor.epoch !== epoch) this.#policiesSince = cursor.number
      if (policies) for (const [, feed] of this.#all()) feed.touchPolicies()
      if (cursor.epoch !== epoch) for (const [, feed] of this.#all()) feed.touchCursor()
      epoch = cursor.epoch
    })
  }

  /** Agents with an open stream. */
  get size (): number { return this.#open.size }
  /** Streams of one agent: two for a moment when it reconnects. */
  openOf (agent: SpiffeId): number { return this.#open.get(agent)?.size ?? 0 }

  /** Ends all streams. @returns whose they were */
  endAll (error: Error): SpiffeId[] {
    for (const [, feed] of this.#all()) feed.fail(error)
    return [...this.#open.keys()]
  }

  /**
   * Close what this returns.
   * @param resume where the agent stands; `undefined`: it knows nothing
   * @param options.mesh whether it follows services too
   * @param options.policies what it decides by, if it follows policies
   * @throws {SpiffeError} `datastore_unavailable` when the agent knows more than this replica, which cannot look; `rate_limited` when the
   *   agent has as many streams as one may have
   */
  async open (
    agentId: SpiffeId, resume: Cursor | undefined, { mesh = false, policies }: OpenOptions = {}
  ): Promise<AgentFeed & Disposable> {
    const { replica, ownBundle, trustDomain } = this.#deps
    // Another replica told it more: it must not be led back, nor be told of changes that this replica takes over in one step with what
    // the agent has of them.
    if (resume !== undefined && !hasReached(replica.cursor, resume)) await replica.catchUp()
    if (this.openOf(agentId) >= mostStreams) {
      throw new SpiffeError('rate_limited', `the agent has ${mostStreams} streams open at this replica, as many as one may have`)
    }
    const missedServices = mesh && resume !== undefined ? this.#servicesSince(resume) : undefined
    const missed = resume === undefined || (mesh && missedServices === undefined) ? undefined : this.history.since(resume, agentId)
    const upToDate = missed !== undefined && resume !== undefined && resume.number >= this.#revocationsSince
    const feed = new AgentFeed({
      registry: replica.registry,
      trustDomain,
      cursor: () => replica.cursor,
      agent: () => replica.agents.get(agentId) ?? { id: agentId, selectors: [] },
      bundleOf: domain => domain === trustDomain ? ownBundle.value : replica.bundleOf(domain),
      mesh: mesh ? new MeshFeed(this.#meshSteps, missedServices) : undefined,
      revocations: () => replica.revocations.all,
      policies: policies && { state: () => replica.policies.state, steps: this.#policySteps },
      soon: wake => this.#turns.soon(wake)
    }, missed, {
      revocations: upToDate ? replica.revocations.all : undefined,
      policies: missed === undefined ? undefined : this.#policiesKnown(resume, policies),
      served: policies
    })
    const feeds = this.#open.get(agentId) ?? new Set()
    feeds.add(feed)
    if (mesh) this.#meshFeeds.add(feed)
    this.#open.set(agentId, feeds)
    return Object.assign(feed, {
      [Symbol.dispose]: () => {
        feeds.delete(feed)
        this.#meshFeeds.delete(feed)
        if (feeds.size === 0 && this.#open.get(agentId) === feeds) this.#open.delete(agentId)
      }
    })
  }

  /** A set that the agent could not take over is told again: it may be another version by now. */
  #policiesKnown (resume: Cursor | undefined, served: OpenOptions['policies']): PolicyState | undefined {
    const { state } = this.#deps.replica.policies
    const same = served?.version === (state.active?.number ?? 0) && served.revision === (state.active?.revision ?? '')
    return same && resume !== undefined && resume.number >= this.#policiesSince ? state : undefined
  }

  /** What an agent that stands there missed; `undefined` when that is not known: it must be told everything. */
  #servicesSince (resume: Cursor): MeshChange | undefined {
    const services = this.#meshHistory.since(resume, 'services')
    const endpoints = this.#meshHistory.since(resume, 'endpoints')
    return services === undefined || services === 'all' || endpoints === undefined || endpoints === 'all'
      ? undefined
      : { services, endpoints }
  }

  /**
   * Ends all streams while this replica's view is too old or it stands aside, so that agents turn to another one; tells others of agents
   * that have all though nothing was sent to them. Until the signal aborts.
   */
  async run (reporter: ProgressReporter, clock: Clock, signal: AbortSignal): Promise<void> {
    const reported = new Map<SpiffeId, Cursor>()
    for (let rounds = 1; ; rounds++) {
      await clock.sleep(checkEveryMs, signal)
      try {
        this.#deps.replica.requireFresh()
        this.#deps.aside.requireDuty()
      } catch (error) {
        this.endAll(error as Error)
      }
      if (rounds % reportEveryRounds === 0) this.#reportIdle(reporter, reported)
    }
  }

  #reportIdle (reporter: ProgressReporter, reported: Map<SpiffeId, Cursor>): void {
    for (const agent of reported.keys()) if (!this.#open.has(agent)) reported.delete(agent)
    for (const [agent, feed] of this.#all()) {
      const { reached } = feed
      const last = reported.get(agent)
      if (reached === undefined || (last?.epoch === reached.epoch && last.number === reached.number)) continue
      reported.set(agent, reached)
      reporter.report(agent, progressOf(feed, reached))
    }
  }

  /** How far an agent of this replica is; `undefined` when it has no stream here or acknowledged nothing yet. */
  progressOf (agent: SpiffeId): Progress | undefined {
    let progress: Progress | undefined
    this.#each(agent, feed => {
      if (feed.reached !== undefined) progress = progressOf(feed, feed.reached)
    })
    return progress
  }

  #each (agent: SpiffeId, visit: (feed: AgentFeed) => void): void {
    for (const feed of this.#open.get(agent) ?? []) visit(feed)
  }

  * #all (): Generator<[SpiffeId, AgentFeed]> {
    for (const [agent, feeds] of this.#open) for (const feed of feeds) yield [agent, feed]
  }
}

function progressOf ({ unservedEntryIds, mesh, served }: AgentFeed, cursor: Cursor): Progress {
  return { state: 'acknowledged', cursor, unservedEntryIds, mesh, policies: served }
}
