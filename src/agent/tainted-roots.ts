import type { Bundle } from '../spiffe/bundle.ts'
import { parseCertificate } from '../x509/certificate.ts'

/** Key ids (hex) of the roots that a bundle says are about to be revoked. */
export function taintedKeyIds ({ x509Authorities }: Bundle): ReadonlySet<string> {
  const ids = new Set<string>()
  for (const { certificate, tainted } of x509Authorities) {
    const id = tainted ? parseCertificate(certificate).subjectKeyId : undefined
    if (id !== undefined) ids.add(hex(id))
  }
  return ids
}

/** Key id (hex) of the root that the last certificate of a chain names as its issuer; `undefined` where it names none. @param chain DER */
export function rootKeyIdOf (chain: readonly Uint8Array[]): string | undefined {
  const last = chain.at(-1)
  const id = last === undefined ? undefined : parseCertificate(last).authorityKeyId
  return id === undefined ? undefined : hex(id)
}

function hex (bytes: Uint8Array): string { return Buffer.from(bytes).toString('hex') }
