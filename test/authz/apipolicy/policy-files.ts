import { hash } from 'node:crypto'
import { normalizeRego } from '../../../src/authz/apipolicy/standard-rego.ts'
import { serverApiPolicy, type CallerClass } from '../../../src/authz/server-api-policy.ts'

/** Stands for SPIRE's policy, whose text is not ours to keep: what is recognised is a digest. */
export const rego = 'package spire\nresult := r if {\n  r := data.x # of the table\n  r.x\n  r.allow_admin\n}\n'

export const standardDigests: ReadonlySet<string> = new Set([hash('sha256', normalizeRego(rego))])

const keys: Readonly<Record<CallerClass, string>> = {
  anyone: 'allow_any', local: 'allow_local', admin: 'allow_admin', agent: 'allow_agent', downstream: 'allow_downstream'
}

/** A data file that says of SPIRE's methods what SPIRE says, but for `changes`. */
export function policyData (changes: Readonly<Record<string, readonly CallerClass[]>> = {}): string {
  const apis = [...serverApiPolicy].filter(([method]) => /^\/(spire\.api|grpc\.health)\./.test(method)).map(([method, callers]) => ({
    full_method: method, ...Object.fromEntries((changes[method] ?? callers).map(caller => [keys[caller], true]))
  }))
  return JSON.stringify({ apis })
}
