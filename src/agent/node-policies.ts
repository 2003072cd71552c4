import { PolicyEngine } from '../authz/policy/policy-engine.ts'
import type { PolicySet } from '../authz/policy/policy-set.ts'
import { readPolicySet, type TrustDomainPolicies } from '../authz/policy/read-policy-set.ts'
import { resolveSelectors, selectorsIn } from '../authz/policy/resolve-selectors.ts'
import type { Logger } from '../runtime/logger.ts'
import { Watchable } from '../runtime/watchable.ts'
import { SpiffeError } from '../spiffe/errors.ts'
import type { PolicyDocumentText } from '../spiffe/policy-version.ts'
import { selectorListKey, type SelectedIds } from '../spiffe/selected-ids.ts'
import type { SpiffeId } from '../spiffe/spiffe-id.ts'

/** A set of policies as a server says it. */
export interface PushedPolicies {
  /** 0: no set is active. */
  readonly version: number
  readonly revision: string
  readonly texts: readonly PolicyDocumentText[]
  readonly selected: SelectedIds
}

/** What a step of the log says of policies. */
export type PolicyPush =
  /** Another set. */
  | { readonly kind: 'whole', readonly pushed: PushedPolicies }
  /** Others are meant by the selectors in the same one; by `selectorListKey`. */
  | { readonly kind: 'selected', readonly version: number, readonly changes: ReadonlyMap<string, SelectedIdsChange> }

export interface SelectedIdsChange { readonly ids: ReadonlySet<SpiffeId>, readonly removedIds: ReadonlySet<SpiffeId> }

/** What the node decides by. */
export type NodePolicyState =
  /** No server has said yet whether there are any: nobody may be let in because none refuses. */
  | { readonly kind: 'unknown' }
  /** The trust domain has no policies. */
  | { readonly kind: 'none' }
  /** `engine` answers by this version, its selectors resolved; its `set` is what was compiled. */
  | { readonly kind: 'set', readonly version: number, readonly revision: string, readonly engine: PolicyEngine }

/** For servers: what is served, and why what was pushed last is not. */
export interface PolicyReport {
  /** 0: none. */
  readonly version: number
  readonly revision: string
  /** Empty: what was pushed last is served. */
  readonly refusal: string
}

/**
 * The trust domain's policies as this node serves them: follows the server as entries do, and without one stays as it was. One set at a
 * time, as a whole; of one that cannot be compiled the last good one stays.
 */
export class NodePolicies {
  readonly #reading: TrustDomainPolicies
  readonly #log: Logger
  readonly #shown = new Watchable<NodePolicyState>({ kind: 'unknown' })
  #pushed: PushedPolicies | undefined
  /** Of what was pushed, as read; its selectors are not resolved. */
  #set: PolicySet | undefined
  /** What was pushed last and could be served. */
  #good: PushedPolicies | undefined
  #refusal = ''

  constructor (reading: TrustDomainPolicies, log: Logger) {
    this.#reading = reading
    this.#log = log
  }

  /** Whether it is known what is active. */
  get synced (): boolean { return this.#pushed !== undefined }
  get state (): NodePolicyState { return this.#shown.value }
  /** What is served, as it was pushed: to be kept. The same object until it changes. */
  get good (): PushedPolicies | undefined { return this.#good }

  get report (): PolicyReport {
    return { version: this.#good?.version ?? 0, revision: this.#good?.revision ?? '', refusal: this.#refusal }
  }

  /** The current state first, then the newest. */
  watch (signal: AbortSignal): AsyncGenerator<NodePolicyState, void, undefined> { return this.#shown.watch(signal) }

  /** Serves what an earlier run kept. */
  restore (kept: PushedPolicies): void { this.#takeWhole(kept) }

  /** A server that does not know policies speaks for a trust domain without any, unless another one has said otherwise. */
  presumeNone (): void {
    if (this.#pushed === undefined) this.#takeWhole({ version: 0, revision: '', texts: [], selected: new Map() })
  }

  /** @throws {SpiffeError} `message_malformed` for a change of a set that is not the one at hand */
  take (push: PolicyPush): void {
    if (push.kind === 'whole') return this.#takeWhole(push.pushed)
    const pushed = this.#pushed
    if (pushed === undefined || pushed.version !== push.version) {
      throw new SpiffeError('message_malformed', `the server changed version ${push.version} of policies that were not pushed`)
    }
    const selected = new Map(pushed.selected)
    for (const [key, { ids, removedIds }] of push.changes) {
      selected.set(key, (selected.get(key) ?? new Set()).difference(removedIds).union(ids))
    }
    this.#pushed = { ...pushed, selected }
    if (this.#set !== undefined) this.#compile(this.#set, this.#pushed)
  }

  #takeWhole (pushed: PushedPolicies): void {
    this.#pushed = pushed
    this.#set = undefined
    if (pushed.version === 0) {
      this.#show(pushed, { kind: 'none' })
      return
    }
    try {
      const set = readPolicySet(pushed.texts, this.#reading)
      if (set.revision !== pushed.revision) throw new SpiffeError('policy_malformed', 'the texts are not those of their revision')
      this.#set = set
    } catch (error) {
      this.#refuse(pushed, error)
      return
    }
    this.#compile(this.#set, pushed)
  }

  #compile (set: PolicySet, pushed: PushedPolicies): void {
    try {
      const engine = new PolicyEngine({ ...resolved(set, pushed.selected), revision: revisionOf(pushed) })
      this.#show(pushed, { kind: 'set', version: pushed.version, revision: pushed.revision, engine })
    } catch (error) {
      this.#refuse(pushed, error)
    }
  }

  #show (pushed: PushedPolicies, state: NodePolicyState): void {
    this.#good = pushed
    this.#refusal = ''
    this.#shown.set(state)
  }

  /** What was served stays. */
  #refuse ({ version }: PushedPolicies, error: unknown): void {
    if (!(error instanceof SpiffeError)) throw error
    this.#refusal = `version ${version}: ${error.message}`
    this.#log.error({ version, served: this.report.version, code: error.code, reason: error.message, next: error.row.next },
      'the policies cannot be served here; the last good ones stay')
  }
}

/** @throws {SpiffeError} `policy_unsupported` when it is not known who is meant by a list */
function resolved (set: PolicySet, selected: SelectedIds): PolicySet {
  for (const selectors of selectorsIn(set.rules)) {
    if (selected.has(selectorListKey(selectors))) continue
    throw new SpiffeError('policy_unsupported', `the server does not say who has the selectors ${selectors.join(' ')}`)
  }
  return resolveSelectors(set, selectors => selected.get(selectorListKey(selectors)) ?? new Set())
}

/** Decisions name the version; who is meant by its selectors changes without another one. */
function revisionOf ({ version, revision }: PushedPolicies): string { return `${version}-${revision}` }
