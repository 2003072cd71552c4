import type { Bundle } from '../spiffe/bundle.ts'
import { SpiffeError } from '../spiffe/errors.ts'
import { serverIdOf } from '../spiffe/member-id.ts'
import type { TrustDomain } from '../spiffe/trust-domain.ts'
import type { Clock } from '../runtime/clock.ts'
import { parseCertificate } from '../x509/certificate.ts'
import { verifyX509Svid } from '../x509/verify-svid.ts'

/** Throws to refuse a server by the chain it showed (DER, leaf first). */
export type VerifyServer = (chain: readonly Uint8Array[]) => void

/**
 * Accepts only `spiffe://<td>/spire/server` under the trust domain's bundle.
 * @throws {SpiffeError} `peer_unauthenticated`, `x509_chain_untrusted`, …
 */
export function verifyServerWith (bundle: () => Bundle, clock: Clock): VerifyServer {
  return chain => {
    const { trustDomain } = bundle()
    const { id } = verifyX509Svid(chain, { bundleOf: domain => domain === trustDomain ? bundle() : undefined, at: clock.now() })
    if (id !== serverIdOf(trustDomain)) {
      throw new SpiffeError('peer_unauthenticated', `the server shows ${id} instead of ${serverIdOf(trustDomain)}`)
    }
  }
}

/** For `insecure_bootstrap`: nothing vouches for the chain, but it must still carry exactly the server's ID. */
export function verifyServerIdOnly (trustDomain: TrustDomain): VerifyServer {
  return chain => {
    const { uriSans } = parseCertificate(chain[0] ?? new Uint8Array())
    if (uriSans.length === 1 && uriSans[0] === serverIdOf(trustDomain)) return
    throw new SpiffeError('peer_unauthenticated', `the server does not show ${serverIdOf(trustDomain)}`)
  }
}
