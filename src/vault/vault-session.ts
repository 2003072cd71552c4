import type { Clock } from '../runtime/clock.ts'
import type { Logger } from '../runtime/logger.ts'
import { codeOf, SpiffeError } from '../spiffe/errors.ts'
import type { VaultAnswer, VaultFailure, VaultHttp } from './vault-http.ts'
import { logIn, renew, type VaultAuth, type VaultToken } from './vault-login.ts'

const loginTimeoutMs = 10_000
const shortestPauseMs = 1_000
const longestPauseMs = 24 * 3_600_000
const pauseAfterFailureMs = 10_000

/** Requests with a token that is renewed at half of its life, and had anew where it cannot be renewed or is not taken any more. */
export class VaultSession implements AsyncDisposable {
  readonly #http: VaultHttp
  readonly #auth: VaultAuth
  readonly #clock: Clock
  readonly #log: Logger
  readonly #closing = new AbortController()
  #token: VaultToken | undefined
  #loggingIn: Promise<VaultToken> | undefined
  #keeping: Promise<void> | undefined

  constructor (http: VaultHttp, auth: VaultAuth, { clock, log }: { readonly clock: Clock, readonly log: Logger }) {
    this.#http = http
    this.#auth = auth
    this.#clock = clock
    this.#log = log
  }

  /** As `VaultHttp.ask`; a token that is refused is replaced once. */
  async ask (method: 'GET' | 'POST' | 'DELETE', path: string, signal: AbortSignal, body?: object): Promise<VaultAnswer> {
    const carried = body === undefined ? {} : { body }
    const token = this.#token ?? await this.#logIn()
    try {
      return await this.#http.ask(method, path, signal, { token: token.token, ...carried })
    } catch (error) {
      if (codeOf(error) !== this.#http.codes.refused || this.#auth.method === 'token') throw error
      const { token: next } = this.#token === token ? await this.#logIn() : this.#token ?? await this.#logIn()
      return await this.#http.ask(method, path, signal, { token: next, ...carried })
    }
  }

  refusal (failure: VaultFailure, message: string): SpiffeError { return this.#http.refusal(failure, message) }

  malformed (what: string): SpiffeError { return this.#http.malformed(what) }

  async [Symbol.asyncDispose] (): Promise<void> {
    this.#closing.abort()
    await this.#keeping
    await this.#http[Symbol.asyncDispose]()
  }

  /** One login for all who need one. */
  async #logIn (): Promise<VaultToken> {
    return await (this.#loggingIn ??= this.#logInOnce().finally(() => { this.#loggingIn = undefined }))
  }

  async #logInOnce (): Promise<VaultToken> {
    const late = AbortSignal.timeout(loginTimeoutMs)
    try {
      this.#token = await logIn(this.#http, this.#auth, AbortSignal.any([this.#closing.signal, late]))
    } catch (error) {
      if (!late.aborted || error instanceof SpiffeError) throw error
      throw this.refusal('unreachable', `vault did not answer the login within ${loginTimeoutMs / 1_000} s`)
    }
    this.#keeping ??= this.#keep()
    return this.#token
  }

  async #keep (): Promise<void> {
    const { signal } = this.#closing
    let failed = false
    while (!signal.aborted) {
      try {
        await this.#clock.sleep(failed ? pauseAfterFailureMs : this.#pauseMs(), signal)
        await this.#prolong(signal)
        failed = false
      } catch (error) {
        if (signal.aborted) return
        failed = true
        this.#log.warn({ code: codeOf(error), error: (error as Error).message }, 'the vault token could not be renewed')
      }
    }
  }

  #pauseMs (): number {
    const seconds = this.#token?.leaseSeconds ?? 0
    return seconds === 0 ? longestPauseMs : Math.min(longestPauseMs, Math.max(shortestPauseMs, seconds * 500))
  }

  async #prolong (signal: AbortSignal): Promise<void> {
    const token = this.#token
    if (token === undefined || token.leaseSeconds === 0) return
    const within = AbortSignal.any([signal, AbortSignal.timeout(loginTimeoutMs)])
    if (token.renewable) {
      const renewed = await renew(this.#http, token, within).catch((error: unknown) => {
        if (codeOf(error) !== this.#http.codes.refused || this.#auth.method === 'token') throw error
        return undefined
      })
      // Towards its longest life, renewing adds less and less.
      if (renewed !== undefined && (this.#auth.method === 'token' || renewed.leaseSeconds > token.leaseSeconds / 2)) {
        this.#token = renewed
        return
      }
    }
    if (this.#auth.method === 'token') {
      this.#log.warn({ leaseSeconds: token.leaseSeconds },
        'the vault token ends and cannot be renewed; use another auth method, or a periodic token')
    }
    await this.#logIn()
  }
}
