import type { Clock } from '../../../runtime/clock.ts'
import type { PodAnswer, PodClient } from './pod-client.ts'
import type { RefusalLog } from './refusal-log.ts'

/** What is called: a virtual address, and the identity of whoever answers there. */
export interface CalledService { readonly name: string, readonly address: string, readonly port: number, readonly id: string }

/** What came of a call. */
export interface Outcome {
  readonly from: string
  readonly to: string
  readonly allowed: boolean
  /** The SPIFFE ID that the proxy of the called side saw; `undefined` when no connection came that far. */
  readonly peer: string | undefined
  /** The pods that answered lately. */
  readonly by: readonly string[]
}

export type Seen = (from: string, to: string) => Outcome | undefined

interface Waiter { readonly isSo: (seen: Seen) => boolean, readonly resolve: (atMs: number) => void }

export interface CallWatchDeps {
  readonly refusals: RefusalLog
  readonly clock: Clock
}

/** A pod that has not answered for so long answers no more. */
const latelyMs = 10_000
const timeoutMs = 60_000
/** Not even the caller's own proxy answered. */
const nobody = { peer: undefined, by: undefined }

/** Every pod calls every service again and again; each call is a connection of its own. */
export class CallWatch {
  readonly #deps: CallWatchDeps
  readonly #callers: PodClient[] = []
  readonly #services: readonly CalledService[]
  readonly #outcomes = new Map<string, Outcome & { readonly calledAtMs: number }>()
  /** Pair and pod → when it answered last. */
  readonly #answered = new Map<string, Map<string, number>>()
  readonly #waiters = new Set<Waiter>()
  /** Milliseconds between two rounds. */
  pauseMs = 100
  /** Told of each outcome that is another than the pair's last one. */
  onChange: (outcome: Outcome) => void = () => {}

  constructor (services: readonly CalledService[], deps: CallWatchDeps) {
    this.#services = services
    this.#deps = deps
  }

  /** Service by service, callers in the order in which they were added. */
  get outcomes (): Outcome[] {
    return this.#services.flatMap(({ name }) => this.#callers.flatMap(({ pod }) => this.#outcomes.get(pairOf(pod.name, name)) ?? []))
  }

  add (caller: PodClient): void { this.#callers.push(caller) }

  async run (signal: AbortSignal): Promise<void> {
    await Promise.all(this.#services.map(service => this.#callForever(service, signal)))
  }

  /** @returns when a call first showed it, by the monotonic clock. Throws when that takes too long. */
  async until (what: string, isSo: (seen: Seen) => boolean, signal: AbortSignal): Promise<number> {
    if (isSo(this.#seen)) return this.#deps.clock.monotonicMs()
    const { promise, resolve } = Promise.withResolvers<number>()
    const waiter = { isSo, resolve }
    this.#waiters.add(waiter)
    const over = new AbortController()
    const tooLong = async () => {
      await this.#deps.clock.sleep(timeoutMs, AbortSignal.any([signal, over.signal]))
      throw new Error(`waited ${timeoutMs / 1_000} s for ${what}; the calls: ${this.outcomes.map(formatOutcome).join('; ')}`)
    }
    try {
      return await Promise.race([promise, tooLong()])
    } finally {
      this.#waiters.delete(waiter)
      over.abort()
    }
  }

  /** One after another: a refusal in a proxy's log belongs to whoever called then. */
  async #callForever (service: CalledService, signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      for (const caller of this.#callers) {
        if (caller.pod.name === service.name) continue
        const [calledAtMs, from] = [this.#deps.clock.monotonicMs(), this.#deps.clock.now()]
        const answer = await caller.call(service.address, service.port)
        const [answeredAtMs, to] = [this.#deps.clock.monotonicMs(), this.#deps.clock.now()]
        if (answer.status === 200) this.#note(caller, service, readAnswer(answer), calledAtMs, answeredAtMs)
        else if (answer.status === 0) this.#note(caller, service, nobody, calledAtMs, answeredAtMs)
        else {
          void this.#deps.refusals.peerOf(service.id, from.getTime(), to.getTime(), signal)
            .then(peer => this.#note(caller, service, { peer, by: undefined }, calledAtMs, answeredAtMs), () => {})
        }
      }
      await this.#deps.clock.sleep(this.pauseMs, signal).catch(() => {})
    }
  }

  #note (
    { pod }: PodClient, service: CalledService, { peer, by }: { peer: string | undefined, by: string | undefined },
    calledAtMs: number, answeredAtMs: number
  ): void {
    const pair = pairOf(pod.name, service.name)
    const before = this.#outcomes.get(pair)
    if (before !== undefined && before.calledAtMs > calledAtMs) return
    const answered = this.#answered.get(pair) ?? new Map<string, number>()
    this.#answered.set(pair, answered)
    if (by === undefined) answered.clear()
    else answered.set(by, answeredAtMs)
    for (const [name, at] of answered) if (answeredAtMs - at > latelyMs) answered.delete(name)
    const now = { from: pod.name, to: service.name, allowed: by !== undefined, peer, by: [...answered.keys()].toSorted(), calledAtMs }
    this.#outcomes.set(pair, now)
    if (before === undefined || formatOutcome(before) !== formatOutcome(now)) this.onChange(now)
    for (const waiter of this.#waiters) if (waiter.isSo(this.#seen)) waiter.resolve(answeredAtMs)
  }

  readonly #seen: Seen = (from, to) => this.#outcomes.get(pairOf(from, to))
}

export function formatOutcome ({ from, to, allowed, peer, by }: Outcome): string {
  const answer = allowed ? `allowed, answered by ${by.join(' and ')}` : 'refused'
  return `${from} -> ${to}: ${answer}; ${peer === undefined ? 'it came to no peer' : `the peer saw ${peer}`}`
}

/** The workload knows its caller by a header. */
function readAnswer ({ body }: PodAnswer): { peer: string | undefined, by: string } {
  const { workload, caller } = JSON.parse(body) as { workload: string, caller: string | null }
  return { peer: /URI=([^;,]+)/.exec(caller ?? '')?.[1], by: workload }
}

function pairOf (from: string, to: string): string { return `${from} ${to}` }
