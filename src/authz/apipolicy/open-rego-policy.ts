import type { Clock } from '../../runtime/clock.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import { parseStrictJsonObject, type JsonObject } from '../../spiffe/strict-json.ts'
import type { TrustDomain } from '../../spiffe/trust-domain.ts'
import { mergeData } from '../rego/bundle-data.ts'
import { defaultLimits } from '../rego/open-rego.ts'
import { readBundle } from '../rego/rego-bundle.ts'
import { RegoSet } from '../rego/rego-set.ts'
import { lintPolicyTable, lintRego } from './lint-policy.ts'
import type { OpenedPolicy, PolicyFile } from './open-policy.ts'
import { probePolicy } from './probe-policy.ts'
import { entrypoint, RegoEvaluator } from './rego-evaluator.ts'

export interface RegoPolicyFiles {
  /** A bundle with `policy.wasm`. */
  readonly bundle: { readonly name: string, readonly bytes: Uint8Array }
  /** What stands under `data`, beside the bundle's own. */
  readonly data: PolicyFile | undefined
}

export interface RegoPolicyDeps {
  /** Whose members the policy must not all let in. */
  readonly trustDomain: TrustDomain
  readonly clock: Clock
}

const longestData = 1_048_576

/**
 * Makes an evaluator of any policy for SPIRE: package `spire`, of which `result` is asked. Its threads live as long as the scope.
 * @throws {SpiffeError} `policy_too_open` where it opens a method to everybody, or lets every agent or downstream server write;
 *   `policy_malformed`, `rego_bundle_invalid`, `rego_timeout`
 */
export async function openRegoPolicy (
  { bundle: { name, bytes }, data }: RegoPolicyFiles, { trustDomain, clock }: RegoPolicyDeps, scope: AsyncDisposableStack
): Promise<OpenedPolicy> {
  const bundle = await readBundle(bytes, undefined)
  for (const [path, text] of bundle.sources) lintRego(`${name}: ${path}`, text)
  if (!bundle.modules.some(({ entrypoints }) => entrypoints.includes(entrypoint))) {
    const command = `opa build -t wasm -e ${entrypoint}`
    throw new SpiffeError('rego_bundle_invalid', `${name} does not answer ${entrypoint}: build it with \`${command}\``)
  }
  const parts = [{ name, data: bundle.data }, ...data === undefined ? [] : [{ name: data.name, data: readData(data) }]]
  const whole = new Map([['spire', { ...bundle, data: mergeData(parts) }]])
  const set = scope.use(await RegoSet.open(whole, defaultLimits, clock, new AbortController().signal))
  const evaluator = new RegoEvaluator(name, set, clock)
  const { table, silent } = await probePolicy(evaluator, trustDomain)
  const warnings = lintPolicyTable(name, table)
  if (silent.length > 0) {
    warnings.push(`${name}: data.spire.result is not whole for ${silent.length} methods, among them ${silent[0]}: calls of them fail`)
  }
  return { evaluator, warnings }
}

function readData ({ name, text }: PolicyFile): JsonObject {
  try {
    return parseStrictJsonObject(text, { maxLength: longestData })
  } catch (error) {
    throw new SpiffeError('policy_malformed', `${name}: ${(error as Error).message}`, { cause: error })
  }
}
