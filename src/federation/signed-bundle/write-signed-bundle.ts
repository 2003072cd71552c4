import { bundleObject } from '../../spiffe/bundle-document.ts'
import type { Bundle } from '../../spiffe/bundle.ts'
import { formatJson } from '../../spiffe/format-json.ts'
import { signedBundleType } from './signed-bundle.ts'

/**
 * The trust domain's own bundle, for places that others may write to: who has the bundle before can tell that it is the domain's.
 * @param sign by a JWT key of the domain that the bundle before has too
 * @returns compact JWS
 */
export async function writeSignedBundle (
  bundle: Bundle, expiresAt: Date, sign: (payload: string, typ: typeof signedBundleType) => Promise<string>
): Promise<string> {
  const exp = Math.floor(expiresAt.getTime() / 1_000)
  return await sign(formatJson({ trust_domain: bundle.trustDomain, bundle: bundleObject(bundle), exp }), signedBundleType)
}
