/** The worst first. */
export const severities = ['error', 'warning', 'info'] as const
export type Severity = typeof severities[number]

/** By code: how bad it is, and what to do about it. Codes are stable: pipelines silence them by name. */
export type LintCatalogue = Readonly<Record<string, { readonly severity: Severity, readonly next: string }>>

/** Something in what operators wrote that is wrong, or that they may not have meant. */
export interface LintFinding<Code extends string = string> {
  readonly code: Code
  readonly severity: Severity
  /** What it is about; absent: all of it. */
  readonly about?: string | undefined
  /** `file:line`, where it is known. */
  readonly where?: string | undefined
  readonly message: string
  readonly next: string
}

/** Those that are equally bad stay in their order. */
export function worstFirst<Finding extends LintFinding> (findings: readonly Finding[]): Finding[] {
  return findings.toSorted((a, b) => severities.indexOf(a.severity) - severities.indexOf(b.severity))
}
