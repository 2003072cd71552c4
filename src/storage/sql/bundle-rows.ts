import type { Bundle } from '../../spiffe/bundle.ts'
import type { TrustDomain } from '../../spiffe/trust-domain.ts'
import type { BundleRow } from './schema.ts'

interface X509Column { readonly certificate: string, readonly tainted: boolean }
interface JwtColumn { readonly keyId: string, readonly publicKey: string, readonly expiresAt?: number, readonly tainted: boolean }

export function encodeBundle (bundle: Bundle): Omit<BundleRow, 'row_id'> {
  return {
    trust_domain: bundle.trustDomain,
    sequence_number: bundle.sequenceNumber?.toString() ?? null,
    refresh_hint: bundle.refreshHintSeconds ?? null,
    x509_authorities: JSON.stringify(bundle.x509Authorities.map(({ certificate, tainted }): X509Column =>
      ({ certificate: base64(certificate), tainted }))),
    jwt_authorities: JSON.stringify(bundle.jwtAuthorities.map(({ keyId, publicKey, expiresAt, tainted }): JwtColumn =>
      ({ keyId, publicKey: base64(publicKey), ...expiresAt === undefined ? {} : { expiresAt: expiresAt.getTime() }, tainted })))
  }
}

export function decodeBundle (row: BundleRow): Bundle {
  return {
    trustDomain: row.trust_domain as TrustDomain,
    x509Authorities: (JSON.parse(row.x509_authorities) as X509Column[]).map(({ certificate, tainted }) =>
      ({ certificate: bytes(certificate), tainted })),
    jwtAuthorities: (JSON.parse(row.jwt_authorities) as JwtColumn[]).map(({ keyId, publicKey, expiresAt, tainted }) =>
      ({ keyId, publicKey: bytes(publicKey), ...expiresAt === undefined ? {} : { expiresAt: new Date(expiresAt) }, tainted })),
    ...row.sequence_number === null ? {} : { sequenceNumber: BigInt(row.sequence_number) },
    ...row.refresh_hint === null ? {} : { refreshHintSeconds: row.refresh_hint }
  }
}

function base64 (bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('base64')
}

function bytes (base64: string): Uint8Array {
  return new Uint8Array(Buffer.from(base64, 'base64'))
}
