import type { PolicyVersion, PolicyVersionDraft, PolicyVersionFacts } from '../spiffe/policy-version.ts'

export interface PolicyOutcome {
  /** Active now. */
  readonly version: PolicyVersion
  /** Whether a version was made; not when its documents are the active ones' to the letter. */
  readonly changed: boolean
}

/** Versions of the trust domain's policies. The newest is active, as a whole; the last hundred are remembered. */
export interface PolicyStore {
  /**
   * Makes the next version.
   * @param replaces the number of the active version as the caller knows it; 0: none
   * @throws {SpiffeError} `policy_conflict` when another one is active
   */
  apply (draft: PolicyVersionDraft, replaces: number): Promise<PolicyOutcome>
  /** `undefined`: none was ever applied. */
  active (): Promise<PolicyVersion | undefined>
  get (number: number): Promise<PolicyVersion | undefined>
  /** The newest first; at most `policyHistoryLength`. */
  list (): Promise<readonly PolicyVersionFacts[]>
}
