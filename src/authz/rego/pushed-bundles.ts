import { createHash } from 'node:crypto'
import type { Clock } from '../../runtime/clock.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import type { PolicyBundle, PolicySet } from '../policy/policy-set.ts'
import type { SignatureVerification, VerificationKey } from './bundle-signature.ts'
import { defaultLimits } from './open-rego.ts'
import { readBundle, type RegoBundle } from './rego-bundle.ts'
import { regoPathOf } from './rego-provider.ts'
import { RegoSet } from './rego-set.ts'

export interface PushedBundlesDeps {
  /**
   * Those who may have signed, by ID: each bundle must be signed by one of them, and by the one that its document names. None: a bundle
   * whose document names a key is refused, others need no signature. `undefined`: signatures are not looked at.
   */
  readonly keys: Readonly<Record<string, VerificationKey>> | undefined
  readonly clock: Clock
}

/**
 * Opens the Rego of a policy set; each evaluation has the usual limits. A bundle without a revision in its manifest goes by its digest.
 * @throws {SpiffeError} `rego_bundle_invalid`, `rego_bundle_untrusted`, naming the bundle
 */
export async function openPushedBundles (
  bundles: readonly PolicyBundle[], { keys, clock }: PushedBundlesDeps, signal: AbortSignal
): Promise<RegoSet> {
  const read = await Promise.all(bundles.map(async bundle => [bundle.name, await readPushed(bundle, keys)] as const))
  return await RegoSet.open(new Map(read), defaultLimits, clock, signal)
}

/**
 * Refuses Rego that no agent could use, before it is anybody's: opens it as an agent would, signatures aside.
 * @throws {SpiffeError} `rego_bundle_invalid`; `policy_unsupported` for a rule that asks what no bundle answers
 */
export async function checkPushedBundles (
  { bundles, rules }: Pick<PolicySet, 'bundles' | 'rules'>, deps: PushedBundlesDeps, signal: AbortSignal
): Promise<void> {
  const answered = bundles.length === 0 ? [] : await entrypointsOf(bundles, deps, signal)
  for (const { name, provider = '' } of rules) {
    const path = regoPathOf(provider)
    if (path === undefined || answered.includes(path)) continue
    throw new SpiffeError('policy_unsupported', `rule ${name} asks ${provider}, and no RegoBundle answers ${path}`)
  }
}

async function entrypointsOf (
  bundles: readonly PolicyBundle[], deps: PushedBundlesDeps, signal: AbortSignal
): Promise<readonly string[]> {
  await using opened = await openPushedBundles(bundles, deps, signal)
  return opened.entrypoints
}

async function readPushed (
  { name, archive = '', entrypoints, key }: PolicyBundle, keys: PushedBundlesDeps['keys']
): Promise<RegoBundle> {
  const bytes = Buffer.from(archive, 'base64')
  try {
    const bundle = await readBundle(bytes, verificationBy(keys, key))
    const answered = bundle.modules.flatMap(({ entrypoints }) => entrypoints)
    if (answered.length === 0) throw invalid('it has no policy.wasm: build it with `opa build -t wasm -e ENTRYPOINT`')
    const missing = entrypoints.find(path => !answered.includes(path))
    if (missing !== undefined) throw invalid(`it does not answer ${missing}: build it with \`opa build -t wasm -e ${missing}\``)
    return { ...bundle, revision: bundle.revision === '' ? `sha256:${digestOf(bytes)}` : bundle.revision }
  } catch (error) {
    if (!(error instanceof SpiffeError)) throw error
    throw new SpiffeError(error.code, `RegoBundle ${name}: ${error.message}`, { cause: error })
  }
}

function verificationBy (keys: PushedBundlesDeps['keys'], keyId: string | undefined): SignatureVerification | undefined {
  const isFree = keys === undefined || (Object.keys(keys).length === 0 && keyId === undefined)
  return isFree ? undefined : { keys, keyId }
}

function digestOf (bytes: Uint8Array): string { return createHash('sha256').update(bytes).digest('hex') }

function invalid (rule: string): SpiffeError { return new SpiffeError('rego_bundle_invalid', rule) }
