import { SpiffeError } from '../../spiffe/errors.ts'
import { serverApiPolicy } from '../server-api-policy.ts'
import { TableEvaluator, type ApiPolicyEvaluator } from './evaluator.ts'
import { lintPolicyTable, lintRego } from './lint-policy.ts'
import { readPolicyData } from './policy-data.ts'
import { entrypoint, isSpires } from './rego-evaluator.ts'
import { isStandardRego } from './standard-rego.ts'

/** A file as it was read. */
export interface PolicyFile { readonly name: string, readonly text: string }

export interface SpirePolicyFiles {
  readonly rego: PolicyFile
  readonly data: PolicyFile | undefined
  /** SHA-256 of texts that count as the standard policy; those of SPIRE's releases unless told. */
  readonly standardDigests?: ReadonlySet<string>
}

export interface OpenedPolicy {
  readonly evaluator: ApiPolicyEvaluator
  /** A sentence each. */
  readonly warnings: readonly string[]
}

/**
 * Makes an evaluator of the policy that SPIRE ships and its data. Methods that SPIRE does not have (`/assay.…`, reflection) stay with the
 * built-in table, of which such a policy cannot know.
 * @throws {SpiffeError} `policy_too_open`, `policy_malformed`; `policy_unsupported` where the Rego is not SPIRE's own
 */
export function openSpirePolicy ({ rego, data, standardDigests }: SpirePolicyFiles): OpenedPolicy {
  lintRego(rego.name, rego.text)
  if (!isStandardRego(rego.text, standardDigests)) {
    throw new SpiffeError('policy_unsupported',
      `${rego.name} is not SPIRE's standard policy, and other Rego has to be compiled: name an opa (opa_path); or run ` +
      `\`opa build -t wasm -e ${entrypoint} -o policy.tar.gz ${rego.name}\` and name policy.tar.gz; or say it with \`server.roles\``)
  }
  if (data === undefined) throw new SpiffeError('policy_malformed', `${rego.name} admits nobody without policy_data_path`)
  const table = readPolicyData(data.name, data.text)
  const warnings = lintPolicyTable(data.name, table)
  const own = [...serverApiPolicy].filter(([method]) => !isSpires(method))
  return { evaluator: new TableEvaluator(data.name, new Map([...table, ...own])), warnings }
}
