/** Why a request was decided as it was. */
export type Reason =
  /** A rule says so. */
  | 'rule'
  /** There are `allow` rules about the workload, and none lets this in. */
  | 'no-rule-allows'
  /** No `allow` rule is about the workload: what the settings say. */
  | 'default'
  /** The relationship with the caller's trust domain does not cover it. */
  | 'federation'
  /** Somebody else was asked, and refused or could not say. */
  | 'custom'

export interface Decision {
  readonly allowed: boolean
  readonly reason: Reason
  /** The rule that decided, `<policy>/<rule>`; of several the first. */
  readonly rule?: string | undefined
  /** `audit` rules that the request meets. */
  readonly audits: readonly string[]
  /** What the decision would be if shadow rules were obeyed; absent without any. */
  readonly shadow?: Decision | undefined
  /** Who must be asked before the decision holds, in order: a refusal of theirs is final. Empty unless `custom` rules apply. */
  readonly consult: ReadonlyArray<{ readonly rule: string, readonly provider: string }>
  readonly revision: string
  /** Revisions of the bundles of Rego that somebody asked decided by, by name; absent when none was. */
  readonly bundles?: Readonly<Record<string, string>> | undefined
}
