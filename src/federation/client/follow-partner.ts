import type { Bundle } from '../../spiffe/bundle.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import type { TrustDomain } from '../../spiffe/trust-domain.ts'
import type { Clock } from '../../runtime/clock.ts'
import type { Logger } from '../../runtime/logger.ts'
import { timed, type Took } from '../../runtime/took.ts'
import { nap } from '../../runtime/nap.ts'
import { Watchable } from '../../runtime/watchable.ts'
import type { BundleSink } from './bundle-sink.ts'
import { checkAuthorities, type KnownBundles } from './foreign-authorities.ts'
import { judgeUpdate, type Judgement } from './judge-update.ts'
import type { PartnerEvents } from './partner-events.ts'
import type { PartnerSource } from './partner-source.ts'
import type { PartnerState, SourceState } from './partner-state.ts'
import { defaultRefreshTimes, nextRefreshMs, type RefreshTimes } from './refresh-time.ts'
import { trustEnds } from './trust-ends.ts'

export interface FollowPartnerOptions {
  readonly trustDomain: TrustDomain
  /** The partner's endpoint first; then, in the order in which they are asked when it fails, those with copies. */
  readonly sources: readonly [PartnerSource, ...PartnerSource[]]
  readonly sink: BundleSink
  /** Against whose bundles an offered one is held. */
  readonly knownBundles: () => KnownBundles
  readonly times?: Partial<RefreshTimes> | undefined
  readonly events?: PartnerEvents | undefined
  readonly clock: Clock
  /** From 0 to 1. */
  readonly random: () => number
  readonly log: Logger
}

/** Who starts with many partners does not ask all of them at once. */
const startSpreadMs = 5_000

/**
 * Keeps the bundle of one partner fresh (Federation §6.2). What cannot be had, is refused or is older leaves the last good one in force,
 * for as long as its authorities live. Two of these for one domain, on two replicas, do no harm.
 */
export class FollowPartner {
  readonly state: Watchable<PartnerState>
  readonly #options: FollowPartnerOptions
  readonly #times: RefreshTimes
  readonly #log: Logger
  /** Polls come one after the other. */
  #turn: Promise<void> = Promise.resolve()
  #polled = Promise.withResolvers<void>()
  #bundle: Bundle | undefined
  #retryAfterMs: number | undefined

  constructor (options: FollowPartnerOptions) {
    this.#options = options
    this.#times = { ...defaultRefreshTimes, ...options.times }
    this.#log = options.log.child({ trustDomain: options.trustDomain })
    const sources = options.sources.map(({ name }) => ({ name, lastSuccessAt: undefined, lastError: undefined }))
    this.state = new Watchable({
      sources, failures: 0, lastSuccessAt: undefined, suppliedBy: undefined, nextPollAt: undefined, ...factsOf(undefined)
    })
  }

  /** Polls until the signal aborts, and throws its reason then. A failed poll is in the state and in the log. */
  async run (signal: AbortSignal): Promise<void> {
    const { sink, trustDomain, random } = this.#options
    this.#show(await sink.stored(trustDomain))
    if (this.#bundle !== undefined) await this.#wait(random() * startSpreadMs, signal)
    for (;;) {
      await this.refresh(signal).catch(() => signal.throwIfAborted())
      // Who has it polled meanwhile puts the next time off.
      while (await this.#wait(this.#intervalMs(), signal) === 'polled') { /* wait anew */ }
    }
  }

  /**
   * Polls now, once a poll under way has ended.
   * @returns what is in force
   * @throws {SpiffeError} why the endpoint gave nothing, when no copy did either; of the sink
   */
  async refresh (signal: AbortSignal): Promise<Bundle | undefined> {
    const { promise, resolve } = Promise.withResolvers<void>()
    const before = this.#turn
    this.#turn = promise
    await before
    try {
      signal.throwIfAborted()
      const { clock, events, trustDomain } = this.#options
      await timed(clock, events && ((took: Took) => events.polled(trustDomain, took)), () => this.#poll(signal))
      return this.#bundle
    } finally {
      resolve()
      this.#polled.resolve()
      this.#polled = Promise.withResolvers()
    }
  }

  #intervalMs (): number {
    const { clock, random } = this.#options
    const { failures } = this.state.value
    const facts = { bundle: this.#bundle, failures, retryAfterMs: this.#retryAfterMs, now: clock.now(), random: random() }
    return nextRefreshMs(facts, this.#times)
  }

  async #wait (ms: number, signal: AbortSignal): Promise<'polled' | 'over'> {
    const { clock } = this.#options
    this.#set({ nextPollAt: new Date(clock.now().getTime() + ms) })
    let outcome: 'polled' | 'over' = 'over'
    await nap(clock, ms, this.#polled.promise.then(() => { outcome = 'polled' }), signal)
    return outcome
  }

  async #poll (signal: AbortSignal): Promise<void> {
    let first: unknown
    for (const [index, source] of this.#options.sources.entries()) {
      try {
        await this.#take(source, signal)
        this.#succeeded(index)
        return
      } catch (error) {
        signal.throwIfAborted()
        this.#failed(index, error)
        if (error instanceof StoreFailure) throw error.cause
        first ??= error
      }
    }
    throw first
  }

  async #take (source: PartnerSource, signal: AbortSignal): Promise<void> {
    const { trustDomain, sink, knownBundles } = this.#options
    const { bundle, notes } = await source.fetch(signal)
    signal.throwIfAborted()
    if (bundle.trustDomain !== trustDomain) throw new Error(`${source.name} gave a bundle of ${bundle.trustDomain}`)
    checkAuthorities(bundle, knownBundles())
    let judgement: Judgement | undefined
    let refusal: unknown
    const decide = (stored: Bundle | undefined) => {
      try {
        judgement = judgeUpdate(stored, bundle, source.offeredBy)
      } catch (error) {
        refusal = error
        throw error
      }
      return judgement.replaces ? bundle : undefined
    }
    try {
      this.#show(await sink.update(trustDomain, decide))
      if (judgement?.replaces === true) this.#options.events?.updated(trustDomain)
    } catch (error) {
      throw refusal !== undefined && error === refusal ? error : new StoreFailure(error)
    }
    this.#tell(source, bundle, judgement, notes)
  }

  /** Each fetch is logged (FED-33). */
  #tell ({ name: source }: PartnerSource, bundle: Bundle, judgement: Judgement | undefined, notes: readonly string[]): void {
    const { sequenceNumber, x509Authorities, jwtAuthorities } = bundle
    const facts = { source, sequence: sequenceNumber?.toString(), x509: x509Authorities.length, jwt: jwtAuthorities.length }
    for (const note of notes) this.#log.warn({ source, note }, 'a key of the partner cannot be used')
    if (judgement?.warning !== undefined) this.#log.warn({ ...facts, warning: judgement.warning }, 'the partner breaks a rule')
    if (judgement?.replaces !== true) return this.#log.debug(facts, 'partner\'s bundle fetched: it is the same')
    if (facts.x509 + facts.jwt === 0) this.#log.warn(facts, 'partner\'s bundle is empty now: nothing of that domain is trusted any more')
    else this.#log.info(facts, 'partner\'s bundle fetched: it is new')
  }

  #succeeded (index: number): void {
    const at = this.#options.clock.now()
    const sources = this.state.value.sources.with(index, { ...this.#source(index), lastSuccessAt: at, lastError: undefined })
    if (index === 0) this.#retryAfterMs = undefined
    this.#set({ sources, lastSuccessAt: at, suppliedBy: this.#source(index).name, ...index === 0 ? { failures: 0 } : {} })
  }

  #failed (index: number, thrown: unknown): void {
    const error = thrown instanceof StoreFailure ? thrown.cause : thrown
    const { clock } = this.#options
    const { name: source } = this.#source(index)
    const refusal = error instanceof SpiffeError ? error : undefined
    const { code, requirement } = refusal ?? {}
    const message = refusal?.message ?? 'internal error'
    if (refusal === undefined) {
      this.#log.error({ err: error, source }, 'a partner\'s bundle could not be taken: this is a bug')
    } else {
      const facts = { source, code, requirement, reason: message, next: refusal.row.next }
      this.#log.warn(facts, 'partner\'s bundle not taken: the last good one stays')
    }
    const lastError = { at: clock.now(), code, requirement, message }
    const sources = this.state.value.sources.with(index, { ...this.#source(index), lastError })
    if (index === 0) this.#retryAfterMs = refusal?.retryAfterMs
    this.#set({ sources, ...index === 0 ? { failures: this.state.value.failures + 1 } : {} })
  }

  #source (index: number): SourceState { return this.state.value.sources[index] as SourceState }

  #show (bundle: Bundle | undefined): void {
    this.#bundle = bundle
    this.#set(factsOf(bundle))
  }

  #set (change: Partial<PartnerState>): void { this.state.set({ ...this.state.value, ...change }) }
}

/** The fault is on our side: no other source would help. */
class StoreFailure extends Error {
  constructor (cause: unknown) { super('what was fetched could not be stored', { cause }) }
}

function factsOf (bundle: Bundle | undefined) {
  return {
    sequenceNumber: bundle?.sequenceNumber,
    refreshHintSeconds: bundle?.refreshHintSeconds,
    x509Authorities: bundle?.x509Authorities.length ?? 0,
    jwtAuthorities: bundle?.jwtAuthorities.length ?? 0,
    trustEndsAt: bundle === undefined ? undefined : trustEnds(bundle)
  }
}
