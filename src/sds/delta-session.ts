import { checkNameCount, checkNames } from './name-limits.ts'
import type { SdsEvents } from './sds-events.ts'
import type { Found, ResourceView, SecretResource } from './secret-resource.ts'

export interface DeltaRequest {
  readonly subscribe: readonly string[]
  readonly unsubscribe: readonly string[]
  /** What Envoy still holds from an earlier stream; read in the first request only. */
  readonly initialVersions: ReadonlyMap<string, string>
  /** Of the answer that this request acknowledges or refuses; empty for a plain change of subscriptions. */
  readonly nonce: string
  readonly refusal: string | undefined
}

/** One resource, or names that are gone: never both, and never two resources, since a refusal hits all of an answer and names nothing. */
export interface DeltaAnswer {
  readonly nonce: string
  readonly resource: SecretResource | undefined
  readonly removed: readonly string[]
}

export interface DeltaSessionOptions {
  readonly newNonce: () => string
  readonly events: SdsEvents
  /** Of one stream; `maxNames` of any caller's unless given. */
  readonly mostNames?: number | undefined
}

/** Answers without acknowledgement that are remembered; a client that never acknowledges costs no more. */
const maxUnconfirmed = 2 * 1000

const wildcardName = '*'
const noVersions: ReadonlyMap<string, string> = new Map()
/** Envoy was told that it must not have a name. */
const gone = Symbol('gone')
/** Envoy must be told of a name again, whatever it was told before; no version is empty. */
const again = ''

/**
 * One type of resource on one stream of the xDS incremental protocol, without I/O: `receive` and `update` note what changed, `next` gives
 * one answer at a time from the newest state, so that a slow reader is never sent what has been withdrawn meanwhile.
 * A name that the caller may not have is answered as removed, at once, and looked at again whenever it is asked for or the state changes.
 */
export class DeltaSession {
  /** `node.id`, for events. */
  node = ''
  readonly #options: DeltaSessionOptions
  #view: ResourceView | undefined
  #started = false
  #wildcard = false
  readonly #subscribed = new Set<string>()
  /** The version of each name that Envoy was last told. */
  readonly #told = new Map<string, string | typeof gone>()
  /** The last resource of each name that was sent and not refused; */
  readonly #sent = new Map<string, SecretResource>()
  /** and the last that Envoy applied. */
  readonly #good = new Map<string, SecretResource>()
  /** Versions that Envoy refused; not sent again on this stream. */
  readonly #refused = new Map<string, Set<string>>()
  readonly #unconfirmed = new Map<string, DeltaAnswer>()
  readonly #due = new Set<string>()

  constructor (options: DeltaSessionOptions) { this.#options = options }

  /** Whether Envoy has been told everything and has said what it thinks of it. */
  get settled (): boolean { return this.#view !== undefined && this.#due.size === 0 && this.#unconfirmed.size === 0 }

  /** @throws {SpiffeError} `argument_invalid` beyond the limits */
  receive (request: DeltaRequest): void {
    const { mostNames } = this.#options
    checkNames(request.subscribe, mostNames)
    checkNames(request.unsubscribe, mostNames)
    checkNames(request.initialVersions.keys(), mostNames)
    const initialVersions = this.#started ? noVersions : request.initialVersions
    // The first request of a stream that names nothing subscribes to everything.
    const subscribe = !this.#started && request.subscribe.length === 0 ? [wildcardName] : request.subscribe
    this.#started = true
    // The wildcard first: whether it covers a name that is unsubscribed decides whether Envoy keeps that.
    this.#wildcardChanges(request.unsubscribe.includes(wildcardName), subscribe.includes(wildcardName), initialVersions)
    for (const name of request.unsubscribe) if (name !== wildcardName) this.#unsubscribe(name)
    for (const name of subscribe) if (name !== wildcardName) this.#subscribe(name, initialVersions)
    checkNameCount(this.#subscribed.size, mostNames)
    if (request.nonce !== '') this.#settle(request.nonce, request.refusal)
  }

  /** The caller's identities changed. */
  update (view: ResourceView): void {
    this.#view = view
    for (const name of this.#subscribed) this.#due.add(name)
    if (this.#wildcard) this.#lookAtAll()
  }

  /** The next answer that is due, or `undefined` when Envoy has been told everything. */
  next (at: Date): DeltaAnswer | undefined {
    if (this.#view === undefined) return undefined
    const removed: string[] = []
    for (const name of this.#due) {
      const found = this.#covers(name, this.#view) ? this.#view.find(name, at) : undefined
      // Envoy waits for it, as long as it waits for a connection.
      if (found?.kind === 'pending') {
        this.#due.delete(name)
        continue
      }
      const resource = this.#wanted(name, found, at)
      const told = this.#told.get(name)
      if (resource !== undefined && resource.version !== told) {
        if (removed.length > 0) break
        this.#due.delete(name)
        return this.#answer(resource, [])
      }
      this.#due.delete(name)
      if (resource !== undefined) this.#hold(resource)
      else if (told === gone) continue
      else if (told !== undefined || this.#subscribed.has(name)) removed.push(name)
    }
    return removed.length > 0 ? this.#answer(undefined, removed) : undefined
  }

  #wildcardChanges (leaves: boolean, joins: boolean, initialVersions: ReadonlyMap<string, string>): void {
    if (leaves) {
      for (const name of this.#told.keys()) {
        if (this.#subscribed.has(name)) continue
        // Left and joined in one request: whether Envoy dropped what the wildcard alone covered, it alone knows.
        if (joins) this.#told.set(name, again)
        else this.#forget(name)
      }
      this.#wildcard = false
    }
    if (!joins) return
    this.#wildcard = true
    for (const [held, version] of initialVersions) this.#told.set(held, version)
    // What is still under way from an earlier subscription will be applied to this one.
    for (const { resource } of this.#unconfirmed.values()) {
      if (resource !== undefined && !this.#told.has(resource.name)) this.#told.set(resource.name, again)
    }
    this.#lookAtAll()
  }

  #subscribe (name: string, initialVersions: ReadonlyMap<string, string>): void {
    this.#subscribed.add(name)
    this.#due.add(name)
    // Envoy may have dropped the resource and want it again: it is answered even when nothing changed (xDS, resource_names_subscribe).
    this.#told.set(name, initialVersions.get(name) ?? again)
  }

  #unsubscribe (name: string): void {
    if (!this.#subscribed.delete(name)) return
    const told = this.#told.get(name)
    this.#forget(name)
    if (!this.#wildcard || told === undefined) return
    // Envoy cannot know whether the wildcard still covers the name: it is told again, either way.
    this.#told.set(name, again)
    this.#due.add(name)
  }

  #forget (name: string): void {
    this.#told.delete(name)
    this.#sent.delete(name)
    this.#good.delete(name)
    this.#refused.delete(name)
    this.#due.delete(name)
  }

  /** Names the wildcard covers, and names it covered when Envoy was told of them. */
  #lookAtAll (): void {
    for (const name of this.#view?.allNames ?? []) this.#due.add(name)
    for (const name of this.#told.keys()) this.#due.add(name)
  }

  #covers (name: string, view: ResourceView): boolean { return this.#subscribed.has(name) || (this.#wildcard && view.allNames.has(name)) }

  /** What Envoy should hold under a name; `undefined` when nothing. @param found `undefined`: Envoy does not ask for it */
  #wanted (name: string, found: Exclude<Found, { kind: 'pending' }> | undefined, at: Date): SecretResource | undefined {
    if (found === undefined) return undefined
    if (found.kind === 'usable' && this.#refused.get(name)?.has(found.resource.version) !== true) return found.resource
    if (found.kind === 'absent' || found.kind === 'unsupported') {
      this.#refused.delete(name)
      return undefined
    }
    if (found.kind === 'unusable') this.#options.events.heldBack({ node: this.node, name, reason: found.reason })
    const kept = this.#sent.get(name) ?? this.#good.get(name)
    return kept === undefined || (kept.expiresAt !== undefined && kept.expiresAt <= at) ? undefined : kept
  }

  /** What Envoy brought from an earlier stream is as good as sent and applied. */
  #hold (resource: SecretResource): void {
    if (this.#sent.has(resource.name)) return
    this.#sent.set(resource.name, resource)
    this.#good.set(resource.name, resource)
  }

  #answer (resource: SecretResource | undefined, removed: readonly string[]): DeltaAnswer {
    const answer = { nonce: this.#options.newNonce(), resource, removed }
    if (resource !== undefined) {
      this.#told.set(resource.name, resource.version)
      this.#sent.set(resource.name, resource)
    }
    for (const name of removed) {
      this.#sent.delete(name)
      this.#good.delete(name)
      if (this.#subscribed.has(name)) this.#told.set(name, gone)
      else this.#told.delete(name)
    }
    this.#unconfirmed.set(answer.nonce, answer)
    for (const [oldest] of this.#unconfirmed) {
      if (this.#unconfirmed.size <= maxUnconfirmed) break
      this.#unconfirmed.delete(oldest)
    }
    return answer
  }

  #settle (nonce: string, refusal: string | undefined): void {
    const answer = this.#unconfirmed.get(nonce)
    if (answer === undefined) return
    this.#unconfirmed.delete(nonce)
    if (refusal !== undefined) return this.#refuse(answer, refusal)
    for (const name of answer.removed) this.#options.events.acknowledged({ node: this.node, name, version: undefined })
    if (answer.resource === undefined) return
    const { name, version } = answer.resource
    if (this.#sent.has(name)) this.#good.set(name, answer.resource)
    this.#options.events.acknowledged({ node: this.node, name, version })
  }

  /**
   * Envoy keeps its last good secret, but is poisoned: a later consumer of the same secret can end it. Sending the last good one again,
   * or removing it, clears that.
   */
  #refuse (answer: DeltaAnswer, message: string): void {
    const { node } = this
    if (answer.resource === undefined) {
      for (const name of answer.removed) this.#options.events.refused({ node, name, version: undefined, message })
      return
    }
    const { name, version } = answer.resource
    this.#options.events.refused({ node, name, version, message })
    if (this.#told.get(name) !== version) return
    const refused = this.#refused.get(name) ?? new Set()
    this.#refused.set(name, refused.add(version))
    this.#sent.delete(name)
    if (this.#good.get(name)?.version === version) this.#good.delete(name)
    this.#told.set(name, again)
    this.#due.add(name)
  }
}
