import type { SpiffeId } from '../../spiffe/spiffe-id.ts'
import type { TrustDomain } from '../../spiffe/trust-domain.ts'
import type { Match } from './match.ts'
import type { Rule } from './rule.ts'

/** What a relationship with another trust domain lets in; no rule lets in more. */
export interface FederationScope {
  readonly trustDomain: TrustDomain
  /** IDs of that domain; none: they are authenticated, and refused. */
  readonly accept: readonly Match[]
  /** Workloads of ours that they may reach at all; `undefined`: all. */
  readonly workloads: readonly Match[] | undefined
  /** From then on nobody. */
  readonly until: Date | undefined
}

/** Rego that `custom` rules ask, as it came: nothing in the archive has been looked at. */
export interface PolicyBundle {
  readonly name: string
  /** A gzipped tar archive as `opa build -t wasm` writes it, in base64; `undefined`: the document names a file that is not put in yet. */
  readonly archive: string | undefined
  /** Paths that it must answer. */
  readonly entrypoints: readonly string[]
  /** The key that must have signed it. */
  readonly key: string | undefined
}

/** Everything that decides, read and checked. */
export interface PolicySet {
  /** Changes whenever anything that decides does: SHA-256 of the documents, in hexadecimal, or what their source calls it. */
  readonly revision: string
  /** `undefined`: whose workloads these are is not known, and no ID is foreign. */
  readonly trustDomain: TrustDomain | undefined
  /** Names that the trust domain had or has besides. */
  readonly trustDomainAliases: readonly TrustDomain[]
  /** What becomes of requests to workloads that no `allow` rule is about. */
  readonly defaultAction: 'allow' | 'deny'
  /** In the order in which they are named when several apply. */
  readonly rules: readonly Rule[]
  readonly scopes: readonly FederationScope[]
  readonly bundles: readonly PolicyBundle[]
}

/** Where there are no policies, nothing is refused. */
export const noPolicies: PolicySet = {
  revision: 'none', trustDomain: undefined, trustDomainAliases: [], defaultAction: 'allow', rules: [], scopes: [], bundles: []
}

/** Who is meant by selectors: the IDs of all entries that have them. */
export type SelectorDirectory = (selectors: readonly string[]) => ReadonlySet<SpiffeId>
