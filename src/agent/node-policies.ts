import { PolicyEngine } from '../authz/policy/policy-engine.ts'
import type { PolicySet } from '../authz/policy/policy-set.ts'
import { readPolicySet, type TrustDomainPolicies } from '../authz/policy/read-policy-set.ts'
import { resolveSelectors, selectorsIn } from '../authz/policy/resolve-selectors.ts'
import type { PushedBundlesDeps } from '../authz/rego/pushed-bundles.ts'
import type { RegoSet } from '../authz/rego/rego-set.ts'
import { systemClock } from '../runtime/clock.ts'
import type { Logger } from '../runtime/logger.ts'
import { Watchable } from '../runtime/watchable.ts'
import { SpiffeError } from '../spiffe/errors.ts'
import type { PolicyDocumentText } from '../spiffe/policy-version.ts'
import { selectorListKey, type SelectedIds } from '../spiffe/selected-ids.ts'
import type { SpiffeId } from '../spiffe/spiffe-id.ts'
import { NodeBundles } from './node-bundles.ts'

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
  /** `engine` answers by this version, its selectors resolved; its `set` is what was compiled. `rego`: what its `custom` rules may ask. */
  | {
    readonly kind: 'set', readonly version: number, readonly revision: string, readonly engine: PolicyEngine
    readonly rego?: RegoSet | undefined
  }

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
 * time, as a whole; of one that cannot be compiled, or whose Rego cannot be opened, the last good one stays.
 */
export class NodePolicies implements AsyncDisposable {
  readonly #reading: TrustDomainPolicies
  readonly #log: Logger
  readonly #bundles: NodeBundles
  readonly #shown = new Watchable<NodePolicyState>({ kind: 'unknown' })
  #pushed: PushedPolicies | undefined
  /** Of what was pushed, as read; its selectors are not resolved. */
  #set: PolicySet | undefined
  /** What was pushed last and could be served. */
  #good: PushedPolicies | undefined
  #refusal = ''
  /** Whose Rego is being opened. */
  #opening: { readonly set: PolicySet, readonly done: Promise<void> } | undefined

  constructor (reading: TrustDomainPolicies, log: Logger, { keys = {}, clock = systemClock }: Partial<PushedBundlesDeps> = {}) {
    this.#reading = reading
    this.#log = log
    this.#bundles = new NodeBundles({ keys, clock })
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

  /** When what was taken is served or refused: at once, unless there is Rego to open. */
  async settled (): Promise<void> { await this.#opening?.done }

  async [Symbol.asyncDispose] (): Promise<void> {
    this.#set = undefined
    await this.#bundles[Symbol.asyncDispose]()
    await this.#opening?.done
  }

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
      this.#bundles.serve([], undefined)
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
    const rego = this.#bundles.servedAs(set.bundles)
    if (set.bundles.length === 0 || rego !== undefined) this.#serve(set, pushed, rego)
    else if (this.#opening?.set !== set) this.#opening = { set, done: this.#open(set) }
  }

  /** What is pushed meanwhile counts: other policies instead of these, or others who are meant by the selectors in these. */
  async #open (set: PolicySet): Promise<void> {
    let rego: RegoSet | undefined
    try {
      rego = await this.#bundles.open(set.bundles)
    } catch (error) {
      if (this.#set === set) this.#refuse(this.#pushed as PushedPolicies, error)
    }
    if (this.#opening?.set === set) this.#opening = undefined
    if (rego === undefined) return
    if (this.#set === set) this.#serve(set, this.#pushed as PushedPolicies, rego)
    if (this.#bundles.servedAs(set.bundles) !== rego) await rego[Symbol.asyncDispose]()
  }

  #serve (set: PolicySet, pushed: PushedPolicies, rego: RegoSet | undefined): void {
    try {
      const engine = new PolicyEngine({ ...resolved(set, pushed.selected), revision: revisionOf(pushed) })
      this.#bundles.serve(set.bundles, rego)
      this.#show(pushed, { kind: 'set', version: pushed.version, revision: pushed.revision, engine, rego })
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
