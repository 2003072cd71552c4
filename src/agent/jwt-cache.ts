import { createHash } from 'node:crypto'
import type { Entry } from '../spiffe/entry.ts'
import { codeOf, SpiffeError } from '../spiffe/errors.ts'
import type { JwtSvid } from '../spiffe/svid.ts'
import type { Clock } from '../runtime/clock.ts'
import { parseToken } from '../jwt/parse-token.ts'
import { renewalTimeMs } from './renewal-time.ts'

/** A server's NewJWTSVID. */
export interface JwtSigner {
  signJwtSvid (entryId: string, audience: readonly string[], signal: AbortSignal):
  Promise<{ readonly token: string, readonly issuedAt: Date, readonly expiresAt: Date }>
}

/** What validators commonly allow; a token of the farther future was signed before the clock was set back, and is refused. */
const iatLeewayMs = 60_000

const signTimeoutMs = 30_000

interface Cached { readonly svid: Omit<JwtSvid, 'hint'>, readonly renewAtMs: number }

/**
 * JWT-SVIDs by SPIFFE ID and set of audiences, reused until half of their life. When the server cannot sign, one that is still valid is
 * served. Entries that ask for a `jti` are not cached: the point of a `jti` is to be used once.
 */
export class JwtCache {
  readonly #maxSize: number
  readonly #clock: Clock
  readonly #hitTimeoutMs: number
  readonly #random: () => number
  /** In the order of use, the least recent first. */
  readonly #tokens = new Map<string, Cached>()
  readonly #underWay = new Map<string, Promise<Omit<JwtSvid, 'hint'>>>()
  #tainted: ReadonlySet<string> = new Set()
  /** How often all were forgotten. */
  #forgotten = 0

  /**
   * @param hitTimeoutMs how long the signer may take while an older token is still valid
   * @param random 0 to 1: tokens that were fetched together are not renewed together
   */
  constructor (maxSize: number, clock: Clock, hitTimeoutMs = signTimeoutMs, random: () => number = () => 0) {
    this.#maxSize = maxSize
    this.#hitTimeoutMs = hitTimeoutMs
    this.#random = random
    this.#clock = clock
  }

  get size (): number { return this.#tokens.size }

  /** Tokens signed with a key that is about to be revoked are not served any more. */
  setTainted (keyIds: ReadonlySet<string>): void {
    this.#tainted = keyIds
    for (const [key, { svid }] of this.#tokens) if (this.#isTainted(svid)) this.#tokens.delete(key)
  }

  /** None of the tokens is of use any more. */
  forget (): void {
    this.#tokens.clear()
    this.#forgotten++
  }

  /** @throws {SpiffeError} what the signer throws, when no valid token is left */
  async fetch (entry: Entry, audience: readonly string[], signer: JwtSigner, signal: AbortSignal): Promise<JwtSvid> {
    if (entry.additionalAttributes.jwtSvidIncludeJti) return { ...await sign(entry, audience, signer, signal), hint: entry.hint }
    const key = cacheKey(entry, audience)
    const cached = this.#tokens.get(key)
    const now = this.#clock.now().getTime()
    const forgotten = this.#forgotten
    // What was said against tokens while this one was on its way holds for it too.
    const mayStay = (svid: Pick<JwtSvid, 'token'>) => forgotten === this.#forgotten && !this.#isTainted(svid)
    const isGood = cached !== undefined && cached.renewAtMs > now && cached.svid.issuedAt.getTime() < now + iatLeewayMs
    if (isGood) return this.#use(key, cached, entry)
    try {
      const timeoutMs = cached !== undefined && cached.svid.expiresAt.getTime() > now ? this.#hitTimeoutMs : signTimeoutMs
      const svid = await this.#signOnce(key, entry, audience, signer, timeoutMs, signal)
      if (!mayStay(svid)) return { ...svid, hint: entry.hint }
      const renewAtMs = renewalTimeMs({ notBefore: svid.issuedAt, notAfter: svid.expiresAt }, 0.05, this.#random())
      return this.#use(key, { svid, renewAtMs }, entry)
    } catch (error) {
      const mayLast = codeOf(error) !== 'entry_not_authorized' && codeOf(error) !== 'no_identity_issued'
      const isValid = cached !== undefined && cached.svid.expiresAt > this.#clock.now()
      if (isValid && mayLast && mayStay(cached.svid)) return this.#use(key, cached, entry)
      throw error
    }
  }

  /** Callers that want the same token at the same time share one signature; one that gives up does not take it from the others. */
  async #signOnce (
    key: string, entry: Entry, audience: readonly string[], signer: JwtSigner, timeoutMs: number, signal: AbortSignal
  ) {
    const running = this.#underWay.get(key) ?? sign(entry, audience, signer, AbortSignal.timeout(timeoutMs))
    if (!this.#underWay.has(key)) {
      this.#underWay.set(key, running)
      const forget = () => { this.#underWay.delete(key) }
      running.then(forget, forget)
    }
    return await untilAborted(running, signal)
  }

  #isTainted ({ token }: Pick<JwtSvid, 'token'>): boolean { return this.#tainted.size > 0 && this.#tainted.has(keyIdOf(token)) }

  #use (key: string, cached: Cached, entry: Entry): JwtSvid {
    this.#tokens.delete(key)
    this.#tokens.set(key, cached)
    for (const oldest of this.#tokens.keys()) {
      if (this.#tokens.size <= this.#maxSize) break
      this.#tokens.delete(oldest)
    }
    return { ...cached.svid, hint: entry.hint }
  }
}

/** Empty where the token names no key, or is none that could be read. */
function keyIdOf (token: string): string {
  try {
    return parseToken(token).keyId ?? ''
  } catch (error) {
    if (codeOf(error) === undefined) throw error
    return ''
  }
}

async function sign (entry: Entry, audience: readonly string[], signer: JwtSigner, signal: AbortSignal): Promise<Omit<JwtSvid, 'hint'>> {
  return { id: entry.spiffeId, ...await signer.signJwtSvid(entry.id, audience, signal) }
}

/** Hashed, since an audience may be long and keys live as long as the tokens. */
function cacheKey (entry: Entry, audience: readonly string[]): string {
  return createHash('sha256').update(JSON.stringify([
    entry.id, entry.revisionNumber, entry.spiffeId, [...new Set(audience)].toSorted()
  ])).digest('base64')
}

function untilAborted<T> (promise: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const stop = () => reject(signal.reason ?? new SpiffeError('cancelled', 'the caller went away'))
    if (signal.aborted) return stop()
    signal.addEventListener('abort', stop, { once: true })
    promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', stop))
  })
}
