import type { Clock } from '../runtime/clock.ts'
import type { JwtAuthority } from '../spiffe/bundle.ts'
import { SpiffeError } from '../spiffe/errors.ts'
import { formatPublicJwk } from '../spiffe/json-web-key.ts'
import { type Document, jwksDocument, type JwksFormat } from './documents.ts'

export interface PublishedKeysOptions extends JwksFormat {
  readonly clock: Pick<Clock, 'now' | 'monotonicMs'>
  /** For how long the last good keys are served while their source is away. */
  readonly staleMaxMs: number
  /** Longest time that others may keep the keys without asking again; 0: they must always ask. */
  readonly cacheMaxSeconds: number
  /** As long as they may keep them while the source is away. */
  readonly pollMs: number
}

/** What there is to serve, or why nothing is: never had from the source, none that is valid, or too long not confirmed. */
export type KeysAnswer =
  | { readonly kind: 'keys', readonly document: Document, readonly maxAgeSeconds: number }
  | { readonly kind: 'waiting' | 'none' | 'stale' }

/** What a new answer of the source changed, by key ID; `skipped` cannot be published. */
export interface KeysChange {
  readonly added: readonly string[]
  readonly removed: readonly string[]
  readonly skipped: readonly string[]
}

const mostKeys = 1_000
/**
 * A server makes its next key public a third into the life of the one before, and signs with it from 0.45 on (rotation-schedule of `ca`):
 * a tenth of what is left for the newest key is less than what lies between, so that no copy that others keep lacks a key that is used.
 */
const partOfNewestLife = 0.1
/** As long as servers publish a key after its end, for consumers whose clocks run behind. */
const retiredGraceMs = 600_000

/** The last good keys of a source: what is served of them, for how long, and how long others may keep it. */
export class PublishedKeys {
  readonly #options: PublishedKeysOptions
  #keys: readonly JwtAuthority[] = []
  #heardAtMs: number | undefined
  #trouble: string | undefined
  #rendered: { readonly count: number, readonly document: Document } | undefined

  constructor (options: PublishedKeysOptions) { this.#options = options }

  /** Milliseconds since the source last said what its keys are; `undefined` before it first did. */
  get ageMs (): number | undefined {
    return this.#heardAtMs === undefined ? undefined : this.#options.clock.monotonicMs() - this.#heardAtMs
  }

  /** Why the source is not heard just now. */
  get trouble (): string | undefined { return this.#trouble }

  /** How many are served. */
  get size (): number { return this.#valid().length }

  /** @throws {SpiffeError} `bundle_malformed` when there are more keys than anybody has in earnest; the ones before stay */
  take (keys: readonly JwtAuthority[]): KeysChange {
    if (keys.length > mostKeys) throw new SpiffeError('bundle_malformed', `${keys.length} keys are more than ${mostKeys}`)
    const usable = new Map<string, JwtAuthority>()
    const skipped: string[] = []
    for (const key of keys) {
      if (usable.has(key.keyId) || !canBePublished(key)) skipped.push(key.keyId)
      else usable.set(key.keyId, key)
    }
    const before = new Set(this.#keys.map(({ keyId }) => keyId))
    this.#keys = [...usable.values()]
    this.#heardAtMs = this.#options.clock.monotonicMs()
    this.#trouble = undefined
    this.#rendered = undefined
    return { added: [...usable.keys()].filter(id => !before.has(id)), removed: [...before].filter(id => !usable.has(id)), skipped }
  }

  /** The source could not be heard: what it said last is served on, for a time. */
  sourceFailed (reason: string): void { this.#trouble = reason }

  read (): KeysAnswer {
    const { ageMs } = this
    if (ageMs === undefined) return { kind: 'waiting' }
    const { staleMaxMs } = this.#options
    if (ageMs > staleMaxMs) return { kind: 'stale' }
    const keys = this.#valid()
    if (keys.length === 0) return { kind: 'none' }
    // Keys only ever leave by themselves: as many are the same.
    if (this.#rendered?.count !== keys.length) this.#rendered = { count: keys.length, document: jwksDocument(keys, this.#options) }
    return { kind: 'keys', document: this.#rendered.document, maxAgeSeconds: this.#maxAgeSeconds(keys, staleMaxMs - ageMs) }
  }

  #valid (): readonly JwtAuthority[] {
    const now = this.#options.clock.now().getTime()
    return this.#keys.filter(({ expiresAt }) => expiresAt === undefined || expiresAt.getTime() + retiredGraceMs > now)
  }

  #maxAgeSeconds (keys: readonly JwtAuthority[], staleInMs: number): number {
    const { clock, cacheMaxSeconds, pollMs } = this.#options
    const now = clock.now().getTime()
    const lives = keys.flatMap(({ expiresAt }) => expiresAt === undefined ? [] : expiresAt.getTime() - now)
    const bounds = [cacheMaxSeconds * 1_000, staleInMs]
    if (lives.length > 0) bounds.push(Math.min(...lives) + retiredGraceMs, Math.max(...lives) * partOfNewestLife)
    if (this.#trouble !== undefined) bounds.push(pollMs)
    return Math.max(0, Math.floor(Math.min(...bounds) / 1_000))
  }
}

function canBePublished ({ keyId, publicKey }: JwtAuthority): boolean {
  try {
    formatPublicJwk(publicKey)
    return keyId !== ''
  } catch (error) {
    if (error instanceof SpiffeError) return false
    throw error
  }
}
