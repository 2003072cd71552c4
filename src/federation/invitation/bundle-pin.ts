import { createHash } from 'node:crypto'
import { formatBundleDocument, parseBundleDocument } from '../../spiffe/bundle-document.ts'
import type { Bundle } from '../../spiffe/bundle.ts'

/**
 * Names the keys of a bundle: the same for each order of them, whatever sequence number and refresh hint are. Two people can compare it.
 * @returns `sha256:` and 64 hex digits: SHA-256 over those of the keys, which are sorted. Of a CA it is over the certificate in DER, of a
 *   JWT key over its key ID, a zero byte and its SubjectPublicKeyInfo, each after its use and a zero byte
 */
export function bundlePin (bundle: Bundle): string {
  // As it reads to whoever fetches it.
  const { x509Authorities, jwtAuthorities } = parseBundleDocument(formatBundleDocument(bundle), bundle.trustDomain)
  const digests = [
    ...x509Authorities.map(({ certificate }) => hash('x509-svid\0', certificate)),
    ...jwtAuthorities.map(({ keyId, publicKey }) => hash('jwt-svid\0', `${keyId}\0`, publicKey))
  ]
  return `sha256:${hash(...digests.toSorted())}`
}

function hash (...parts: ReadonlyArray<string | Uint8Array>): string {
  const digest = createHash('sha256')
  for (const part of parts) digest.update(part)
  return digest.digest('hex')
}
