import { type CallContext, checkCaller } from '../rpc/call.ts'
import { SpiffeError } from '../spiffe/errors.ts'
import type { Selector } from '../spiffe/selector.ts'
import type { SpiffeId } from '../spiffe/spiffe-id.ts'
import type { AttestWorkload } from '../workloadapi/identity-source.ts'
import type { CallerIdentities } from './delegable-identities.ts'

export interface DelegatesDeps {
  readonly authorized: readonly SpiffeId[]
  readonly attestWorkload: AttestWorkload
  readonly callers: CallerIdentities
}

/** Who may have other workloads' identities: a caller that has one of the authorised ones itself, for as long as it has it. */
export class Delegates {
  readonly #authorized: ReadonlySet<SpiffeId>
  readonly #deps: DelegatesDeps

  constructor (deps: DelegatesDeps) {
    this.#authorized = new Set(deps.authorized)
    this.#deps = deps
  }

  /** @throws {SpiffeError} `no_identity_issued`, `delegate_not_authorized`, `workload_attestation_failed` */
  async admit (context: CallContext): Promise<readonly Selector[]> {
    const selectors = await this.#deps.attestWorkload(context)
    this.check(selectors)
    return selectors
  }

  /** What a source gives, until its reader is no delegate any more: that is looked at before each item, and when identities change. */
  async * whileAdmitted<T> (context: CallContext, source: (signal: AbortSignal) => AsyncIterable<T>): AsyncGenerator<T, void, undefined> {
    const selectors = await this.admit(context)
    const ended = new AbortController()
    const watching = this.#watch(selectors, ended)
    try {
      for await (const item of source(AbortSignal.any([context.signal, ended.signal]))) {
        checkCaller(context)
        this.check(selectors)
        yield item
      }
      if (!context.signal.aborted) ended.signal.throwIfAborted()
    } finally {
      ended.abort()
      await watching
    }
  }

  async #watch (selectors: readonly Selector[], ended: AbortController): Promise<void> {
    try {
      for await (const _ of this.#deps.callers.watch(selectors, ended.signal)) this.check(selectors)
    } catch (error) {
      ended.abort(error)
    }
  }

  /** @throws {SpiffeError} `no_identity_issued`, `delegate_not_authorized` */
  check (selectors: readonly Selector[]): void {
    const ids = this.#deps.callers.idsOf(selectors)
    if (ids.length === 0) throw new SpiffeError('no_identity_issued', 'no identity issued')
    if (ids.some(id => this.#authorized.has(id))) return
    throw new SpiffeError('delegate_not_authorized', 'caller not configured as an authorized delegate', { details: { ids } })
  }
}
