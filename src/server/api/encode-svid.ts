import type { IssuedJwtSvid, IssuedX509Svid } from '../../ca/certificate-authority.ts'
import type { JWTSVIDInit, X509SVIDInit } from '../../wire/generated/types.ts'
import { encodeSpiffeId } from '../../wire/spiffe-id-codec.ts'

/** The hint stays empty: agents take it from the entry (spire-surface §1.6). */
export function encodeX509Svid ({ chain, id, notAfter }: IssuedX509Svid): X509SVIDInit {
  return { certChain: chain, id: encodeSpiffeId(id), expiresAt: unixSeconds(notAfter) }
}

export function encodeJwtSvid ({ token, id, issuedAt, expiresAt }: IssuedJwtSvid): JWTSVIDInit {
  return { token, id: encodeSpiffeId(id), issuedAt: unixSeconds(issuedAt), expiresAt: unixSeconds(expiresAt) }
}

function unixSeconds (date: Date): number { return Math.floor(date.getTime() / 1000) }
