import type { Clock } from '../../runtime/clock.ts'
import type { Logger } from '../../runtime/logger.ts'
import { nap } from '../../runtime/nap.ts'
import { isStop } from '../../runtime/tasks.ts'
import { isAgentId } from '../../spiffe/agent.ts'
import type { SpiffeId } from '../../spiffe/spiffe-id.ts'
import type { LogPlace } from '../../wire/cursor-codec.ts'
import type { ControllerMetrics } from '../controller-metrics.ts'
import type { ServerConvergence } from '../server/server-convergence.ts'
import { AgentsProgress, type EntryUse, type Servers, useOf } from './agents-progress.ts'

/** Of this controller, and on the server. */
export interface OwnEntry {
  readonly key: string
  readonly id: string
  readonly parentId: SpiffeId
}

/** Why it is not known who serves what: `unsupported` by this server; `away`: no answer for a while; `early`: nobody asked yet. */
export type Ignorance = 'unsupported' | 'away' | 'early'

export interface EntriesInUseDeps {
  readonly entries: () => Iterable<OwnEntry>
  readonly convergence: Pick<ServerConvergence, 'ask'>
  readonly clock: Clock
  readonly log: Logger
  readonly metrics: Pick<ControllerMetrics, 'used' | 'looked'>
  /** After each look. */
  readonly onLook: () => void
}

/** Entries that come one after the other are asked about together, once agents had time to take them. */
const gatherMs = 250
const shortestPauseMs = 1_000
/** Between looks while agents are waited for. */
const longestPauseMs = 10_000
/** Between looks while nothing is: agents come and go. */
const idleMs = 30_000
/** A server without the question may be replaced by one that has it. */
const unsupportedMs = 300_000
/** Between looks, at least so many times as long as the last one took: most of the time of a server with many agents is its own. */
const restFactor = 20
/** What was known is told on for so long. */
const staleMs = 30_000
/** Parents that are no agents, each a question; of more the rest are for the next look. */
const mostParents = 16

/**
 * Which of the controller's entries the agents of their nodes serve, by what these acknowledged to the server: one question about all
 * agents tells it of all entries that were written before it, and one more for each parent that stands for several agents.
 */
export class EntriesInUse {
  readonly #deps: EntriesInUseDeps
  readonly #agents = new AgentsProgress()
  /** By key: where the log stood at the first question after the entry was written. */
  readonly #places = new Map<string, LogPlace>()
  /** By key: what was written and is not known to be in use, and since when. */
  readonly #pending = new Map<string, number>()
  /** By parents that are no agents: whom they stand for, as of which look. */
  readonly #parents = new Map<SpiffeId, { readonly agents: readonly SpiffeId[], readonly look: number }>()
  #servers = new Map<SpiffeId, Servers>()
  /** Written since the last question was sent: its answer says nothing of them. */
  #meanwhile = new Set<string>()
  #ignorance: Ignorance | undefined = 'early'
  #answeredMs = -Infinity
  /** What is on the server was read. */
  #hasBegun = false
  #looks = 0
  #wake: () => void = () => {}

  constructor (deps: EntriesInUseDeps) { this.#deps = deps }

  /** `undefined`: it is known. */
  get ignorance (): Ignorance | undefined { return this.#ignorance }

  /** After each round of the reconciler. @param keys of what was made or changed on the server */
  written (keys: ReadonlySet<string>): void {
    const now = this.#deps.clock.monotonicMs()
    for (const key of keys) {
      this.#places.delete(key)
      this.#meanwhile.add(key)
      this.#pending.set(key, now)
    }
    if (keys.size > 0 || !this.#hasBegun) this.#wake()
    this.#hasBegun = true
  }

  of ({ key, id, parentId }: OwnEntry): EntryUse { return useOf(id, this.#places.get(key), this.serversOf(parentId)) }

  /** Who serves what lies below this parent. */
  serversOf (parentId: SpiffeId): Servers {
    const known = this.#servers.get(parentId)
    if (known !== undefined) return known
    const servers = this.#agents.among(isAgentId(parentId) ? [parentId] : this.#parents.get(parentId)?.agents ?? [])
    this.#servers.set(parentId, servers)
    return servers
  }

  /** While this controller leads. @throws the signal's reason */
  async run (signal: AbortSignal): Promise<void> {
    const { clock } = this.#deps
    // Another one may have led, and written, meanwhile.
    this.#places.clear()
    this.#hasBegun = false
    await this.#rest(idleMs, signal)
    for (let pauseMs = shortestPauseMs; ;) {
      const startedMs = clock.monotonicMs()
      const outcome = await this.look(signal)
      await clock.sleep(Math.max(shortestPauseMs, restFactor * (clock.monotonicMs() - startedMs)), signal)
      if (outcome === 'unsupported') {
        await clock.sleep(unsupportedMs, signal)
        continue
      }
      if (this.#meanwhile.size === 0) await this.#rest(outcome === 'settled' ? idleMs : pauseMs, signal)
      if (this.#meanwhile.size > 0) await clock.sleep(gatherMs, signal)
      const isPatient = outcome === 'open' && this.#meanwhile.size === 0
      pauseMs = isPatient ? Math.min(longestPauseMs, pauseMs * 2) : shortestPauseMs
    }
  }

  /** For so long, or until there is something to ask about. */
  async #rest (ms: number, signal: AbortSignal): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>()
    this.#wake = resolve
    await nap(this.#deps.clock, ms, promise, signal)
  }

  /** @returns `settled`: nobody is waited for; `open`: look again soon. Never rejects but with the signal's reason */
  async look (signal: AbortSignal): Promise<'settled' | 'open' | 'unsupported'> {
    const { clock, log, metrics, onLook } = this.#deps
    try {
      const isKnown = await this.#ask(signal)
      metrics.looked(isKnown === undefined ? 'unsupported' : 'answered')
      this.#ignorance = isKnown === undefined ? 'unsupported' : undefined
      this.#answeredMs = clock.monotonicMs()
      return isKnown ?? 'unsupported'
    } catch (error) {
      if (isStop(error, signal)) throw error
      metrics.looked('failed')
      if (clock.monotonicMs() - this.#answeredMs > staleMs) this.#ignorance = 'away'
      log.debug({ err: error }, 'the server could not be asked who serves its entries')
      return 'open'
    } finally {
      onLook()
    }
  }

  /** @returns `undefined`: the server cannot tell */
  async #ask (signal: AbortSignal): Promise<'settled' | 'open' | undefined> {
    const { convergence, entries } = this.#deps
    this.#meanwhile = new Set()
    const own = [...entries()]
    const answer = await convergence.ask(undefined, signal)
    if (answer === undefined) return undefined
    this.#agents.replace(answer.agents)
    this.#servers.clear()
    await this.#askOfParents(own, signal)
    return this.#settle(own, answer.head)
  }

  /** Those that were asked about longest ago first. */
  async #askOfParents (own: readonly OwnEntry[], signal: AbortSignal): Promise<void> {
    const { convergence } = this.#deps
    const look = ++this.#looks
    const samples = new Map<SpiffeId, string>()
    for (const { parentId, id } of own) if (!isAgentId(parentId) && !samples.has(parentId)) samples.set(parentId, id)
    for (const parentId of this.#parents.keys()) if (!samples.has(parentId)) this.#parents.delete(parentId)
    const askedIn = ([parentId]: readonly [SpiffeId, string]) => this.#parents.get(parentId)?.look ?? 0
    for (const [parentId, id] of [...samples].toSorted((a, b) => askedIn(a) - askedIn(b)).slice(0, mostParents)) {
      const answer = await convergence.ask(id, signal)
      this.#parents.set(parentId, { agents: answer?.agents.map(agent => agent.id) ?? [], look })
      this.#servers.delete(parentId)
    }
  }

  #settle (own: readonly OwnEntry[], head: LogPlace): 'settled' | 'open' {
    const { clock, metrics } = this.#deps
    const now = clock.monotonicMs()
    let isOpen = false
    for (const entry of own) {
      const { key } = entry
      if (!this.#meanwhile.has(key) && this.#places.get(key)?.epoch !== head.epoch) this.#places.set(key, head)
      const use = this.of(entry)
      const since = this.#pending.get(key)
      if (use !== 'used') isOpen ||= use === 'waiting' || since !== undefined
      else if (since !== undefined) {
        metrics.used((now - since) / 1_000)
        this.#pending.delete(key)
      }
    }
    const known = new Set(own.map(({ key }) => key))
    const forget = (keys: Iterable<string>, map: Map<string, unknown>) => {
      for (const key of keys) if (!known.has(key) && !this.#meanwhile.has(key)) map.delete(key)
    }
    forget(this.#places.keys(), this.#places)
    forget(this.#pending.keys(), this.#pending)
    return isOpen ? 'open' : 'settled'
  }
}
