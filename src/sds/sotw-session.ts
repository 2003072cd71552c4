import type { SdsEvents } from './sds-events.ts'
import type { SecretResource, SecretView } from './secret-resource.ts'
import type { SdsAliases } from './resource-names.ts'
import { checkNames } from './name-limits.ts'
import { selectSecrets } from './select-secrets.ts'

export interface SotwRequest {
  readonly names: readonly string[]
  readonly nonce: string
  /** Envoy's reason when this request refuses the last answer. */
  readonly refusal: string | undefined
}

export interface SotwAnswer {
  readonly version: string
  readonly nonce: string
  readonly resources: readonly SecretResource[]
}

export interface SotwSessionOptions {
  readonly aliases: SdsAliases
  readonly newNonce: () => string
  readonly events: SdsEvents
}

/**
 * The state-of-the-world side of one StreamSecrets call (spire-surface §4.2), without I/O: `receive` and `update` note what changed,
 * `next` answers from the newest state. Every state re-answers the last request; an acknowledgement with the same names is not answered.
 */
export class SotwSession {
  /** `node.id`, for events. */
  node = ''
  readonly #options: SotwSessionOptions
  #view: SecretView | undefined
  #states = 0
  #request: SotwRequest | undefined
  #due = false
  #lastNonce: string | undefined
  #sent: ReadonlyMap<string, SecretResource> = new Map()
  /** The last answer, until Envoy has said what it thinks of it. */
  #unconfirmed: SotwAnswer | undefined

  constructor (options: SotwSessionOptions) { this.#options = options }

  /** @throws {SpiffeError} `argument_invalid` beyond the limits */
  receive (request: SotwRequest): void {
    checkNames(request.names)
    if (this.#lastNonce !== undefined && request.nonce !== this.#lastNonce) return
    this.#settle(request.refusal)
    this.#due ||= this.#request === undefined || !sameNames(this.#request.names, request.names)
    this.#request = request
  }

  /** The caller's identities changed. */
  update (view: SecretView): void {
    this.#view = view
    this.#states++
    this.#due = true
  }

  /**
   * The answer that is due, if one is.
   * @throws {SpiffeError} `secret_not_authorized` for a name the caller may not have, `sds_validator_unsupported`
   */
  next (at: Date): SotwAnswer | undefined {
    if (!this.#due || this.#view === undefined || this.#request === undefined) return undefined
    this.#due = false
    const held = selectSecrets(this.#view, this.#request.names, this.#options.aliases, at)
    const resources = held.flatMap(one => one.kind === 'usable' ? [one.resource] : this.#lastGood(one.name, one.reason, at))
    if (resources.length === 0 && held.length > 0) return undefined
    this.#sent = new Map(resources.map(resource => [resource.name, resource]))
    this.#lastNonce = this.#options.newNonce()
    this.#unconfirmed = { version: String(this.#states), nonce: this.#lastNonce, resources }
    return this.#unconfirmed
  }

  #lastGood (name: string, reason: string, at: Date): SecretResource[] {
    this.#options.events.heldBack({ node: this.node, name, reason })
    const last = this.#sent.get(name)
    return last === undefined || (last.expiresAt !== undefined && last.expiresAt <= at) ? [] : [last]
  }

  #settle (refusal: string | undefined): void {
    const answer = this.#unconfirmed
    if (answer === undefined) return
    this.#unconfirmed = undefined
    if (refusal === undefined) {
      for (const { name } of answer.resources) this.#options.events.acknowledged({ node: this.node, name, version: answer.version })
      return
    }
    const name = answer.resources.length === 1 ? answer.resources[0]?.name : undefined
    this.#options.events.refused({ node: this.node, name, version: answer.version, message: refusal })
  }
}

function sameNames (some: readonly string[], others: readonly string[]): boolean {
  const set = new Set(some)
  const otherSet = new Set(others)
  return set.size === otherSet.size && otherSet.isSubsetOf(set)
}
