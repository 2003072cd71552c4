import { createHash } from 'node:crypto'
import { checkNames } from '../../sds/name-limits.ts'
import type { SdsEvents } from '../../sds/sds-events.ts'
import type { SotwRequest } from '../../sds/sotw-session.ts'
import type { ResourceView, SecretResource } from '../../sds/secret-resource.ts'

export interface SotwAdsAnswer {
  /** From the content. */
  readonly version: string
  readonly nonce: string
  readonly resources: readonly SecretResource[]
}

/**
 * One type of resource on one stream of the state-of-the-world protocol, without I/O. This protocol cannot take a secret away: Envoy keeps
 * what an answer leaves out. The incremental one can, and is what the bootstrap asks for.
 */
export class SotwAdsSession {
  node = ''
  readonly #options: { readonly newNonce: () => string, readonly events: SdsEvents }
  #view: ResourceView | undefined
  #names: ReadonlySet<string> | undefined
  #lastNonce: string | undefined
  #told: string | undefined
  #refused: string | undefined
  #asked = false
  #unconfirmed: SotwAdsAnswer | undefined

  constructor (options: { readonly newNonce: () => string, readonly events: SdsEvents }) { this.#options = options }

  /** Whether Envoy has said what it thinks of the last answer. */
  get settled (): boolean { return this.#unconfirmed === undefined }

  /** @throws {SpiffeError} `argument_invalid` beyond the limits */
  receive (request: SotwRequest): void {
    checkNames(request.names)
    if (this.#lastNonce !== undefined && request.nonce !== this.#lastNonce) return
    this.#settle(request.refusal)
    const names = new Set(request.names)
    this.#asked ||= this.#names === undefined || names.size !== this.#names.size || !names.isSubsetOf(this.#names)
    this.#names = names
  }

  update (view: ResourceView): void { this.#view = view }

  /** The answer that is due: to what was asked, or because what was told is not so any more. */
  next (at: Date): SotwAdsAnswer | undefined {
    const view = this.#view
    if (view === undefined || this.#names === undefined) return undefined
    const names = this.#names.size === 0 ? view.allNames : this.#names
    const resources = [...names].flatMap(name => {
      const found = view.find(name, at)
      return found.kind === 'usable' ? [found.resource] : []
    })
    const digest = createHash('sha256')
    for (const { name, version } of resources) digest.update(`${name} ${version}\n`)
    const version = digest.digest('hex').slice(0, 32)
    // Of names alone, an answer that holds none of them would be empty: Envoy waits for more.
    const empty = resources.length === 0 && this.#names.size > 0
    if (empty || version === this.#refused || (!this.#asked && version === this.#told)) return undefined
    this.#asked = false
    this.#told = version
    this.#lastNonce = this.#options.newNonce()
    return this.#unconfirmed = { version, nonce: this.#lastNonce, resources }
  }

  #settle (refusal: string | undefined): void {
    const answer = this.#unconfirmed
    if (answer === undefined) return
    this.#unconfirmed = undefined
    const { node } = this
    if (refusal !== undefined) {
      this.#refused = answer.version
      const name = answer.resources.length === 1 ? answer.resources[0]?.name : undefined
      return this.#options.events.refused({ node, name, version: answer.version, message: refusal })
    }
    this.#refused = undefined
    for (const { name, version } of answer.resources) this.#options.events.acknowledged({ node, name, version })
  }
}
