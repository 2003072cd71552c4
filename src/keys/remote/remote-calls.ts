import type { Clock } from '../../runtime/clock.ts'
import type { Logger } from '../../runtime/logger.ts'
import { SpiffeError } from '../../spiffe/errors.ts'

export type RemoteCall = 'create' | 'look' | 'sign' | 'remove' | 'wrap' | 'unwrap'

/**
 * Of a call with all its attempts. RSA keys of 4096 bits take a token many seconds to make; for wrapping nobody waits but a start, or
 * whoever makes a key.
 */
const deadlinesMs: Readonly<Record<RemoteCall, number>> = {
  create: 60_000, look: 5_000, sign: 10_000, remove: 5_000, wrap: 30_000, unwrap: 30_000
}
const attempts = 3
const firstPauseMs = 100
/** Who comes when so many wait is turned away: the service is slower than what is asked of it. */
const mostUnderWay = 256

/** Calls to a key service: with a deadline each, bounded together, done again only where that does no harm, and refused once closed. */
export class RemoteCalls {
  readonly #service: string
  readonly #clock: Clock
  readonly #log: Logger
  readonly #closing = new AbortController()
  #lastChange: Promise<unknown> = Promise.resolve()
  #underWay = 0
  #failing = false

  constructor (service: string, { clock, log }: { readonly clock: Clock, readonly log: Logger }) {
    this.#service = service
    this.#clock = clock
    this.#log = log
  }

  /** One after the other, so that none of two changes of one ID is lost. */
  async oneChange<T> (change: () => Promise<T>): Promise<T> {
    this.#refuseIfClosed()
    const result = this.#lastChange.then(change)
    this.#lastChange = result.catch(() => {})
    return await result
  }

  /** Not repeated: each attempt could leave something behind. */
  once<T> (call: RemoteCall, work: (signal: AbortSignal) => Promise<T>): Promise<T> { return this.#run(call, work, 1) }

  /** Repeated within the deadline when the refusal says that a retry helps: for calls that change nothing. */
  again<T> (call: RemoteCall, work: (signal: AbortSignal) => Promise<T>): Promise<T> { return this.#run(call, work, attempts) }

  /** Gives up what is under way, and waits for the changes among it: a process that stops waits for nobody elsewhere. */
  async close (): Promise<void> {
    this.#closing.abort(closed())
    await this.#lastChange
  }

  async #run<T> (call: RemoteCall, work: (signal: AbortSignal) => Promise<T>, most: number): Promise<T> {
    this.#refuseIfClosed()
    if (this.#underWay >= mostUnderWay) {
      throw new SpiffeError('server_overloaded', `${mostUnderWay} calls wait for ${this.#service} already`, { retryAfterMs: 1_000 })
    }
    this.#underWay++
    try {
      const result = await this.#withinDeadline(call, signal => this.#repeat(work, most, signal))
      this.#report(undefined)
      return result
    } catch (error) {
      this.#report(error)
      throw error
    } finally {
      this.#underWay--
    }
  }

  /** Whether or not the work heeds its signal. */
  async #withinDeadline<T> (call: RemoteCall, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const over = new AbortController()
    const late = new AbortController()
    const signal = AbortSignal.any([this.#closing.signal, late.signal])
    const deadlineMs = deadlinesMs[call]
    const refused = Promise.withResolvers<never>()
    signal.addEventListener('abort', () => refused.reject(signal.reason), { once: true })
    this.#clock.sleep(deadlineMs, over.signal).then(() => {
      late.abort(new SpiffeError('key_service_unreachable', `${this.#service} did not answer within ${deadlineMs / 1000} s`))
    }, () => {})
    try {
      const done = work(signal)
      // When the deadline wins, its own end is of no interest.
      done.catch(() => {})
      return await Promise.race([done, refused.promise])
    } finally {
      over.abort()
    }
  }

  async #repeat<T> (work: (signal: AbortSignal) => Promise<T>, most: number, signal: AbortSignal): Promise<T> {
    for (let attempt = 1; ; attempt++) {
      try {
        return await work(signal)
      } catch (error) {
        signal.throwIfAborted()
        if (attempt === most || !(error instanceof SpiffeError) || !error.row.retry || error.code === 'key_service_key_gone') throw error
        await this.#clock.sleep(error.retryAfterMs ?? firstPauseMs * 4 ** (attempt - 1), signal)
      }
    }
  }

  /** Once when trouble begins and once when it ends, not for each call. */
  #report (error: unknown): void {
    const failing = error instanceof SpiffeError && error.code !== 'key_service_key_gone' && !this.#closing.signal.aborted
    if (failing === this.#failing || (error !== undefined && !failing)) return
    this.#failing = failing
    if (failing) this.#log.error({ manager: this.#service, code: error.code, error: error.message }, 'the key service fails')
    else this.#log.info({ manager: this.#service }, 'the key service works')
  }

  #refuseIfClosed (): void {
    if (this.#closing.signal.aborted) throw closed()
  }
}

function closed (): SpiffeError { return new SpiffeError('server_stopping', 'the key manager is closed') }
