import { createPublicKey } from 'node:crypto'
import type { Bundle } from '../spiffe/bundle.ts'
import { SpiffeError } from '../spiffe/errors.ts'
import { parseCertificate, type Certificate } from './certificate.ts'
import { parsePublicKey } from './public-key.ts'
import type { VerifyingKey } from './signature-algorithm.ts'

/** A certificate whose key may have signed others. */
export interface IssuerCandidate extends VerifyingKey {
  readonly certificate: Certificate
}

/** Of the authorities of one bundle, by subject (Name in DER, as latin1). */
export type TrustAnchors = ReadonlyMap<string, readonly IssuerCandidate[]>

/** Bundles are values: a changed one is another object. */
const cache = new WeakMap<Bundle, TrustAnchors>()

/** Authorities that cannot be read, or whose key is refused (AMB-24), verify nothing; the others stand. */
export function trustAnchorsOf (bundle: Bundle): TrustAnchors {
  const known = cache.get(bundle)
  if (known !== undefined) return known
  const anchors = new Map<string, IssuerCandidate[]>()
  for (const { certificate: der } of bundle.x509Authorities) {
    const anchor = readAnchor(der)
    if (anchor === undefined) continue
    const subject = nameKey(anchor.certificate.subjectDer)
    const sameSubject = anchors.get(subject)
    if (sameSubject === undefined) anchors.set(subject, [anchor])
    else sameSubject.push(anchor)
  }
  cache.set(bundle, anchors)
  return anchors
}

/** @param name DER. Names are compared byte by byte. */
export function nameKey (name: Uint8Array): string { return Buffer.from(name.buffer, name.byteOffset, name.byteLength).toString('latin1') }

/** @returns `undefined` when the key is of a kind that is refused */
export function issuerCandidate (certificate: Certificate): IssuerCandidate | undefined {
  try {
    return { certificate, facts: parsePublicKey(certificate.publicKey), key: certificate.publicKey }
  } catch (error) {
    if (error instanceof SpiffeError) return undefined
    throw error
  }
}

function readAnchor (der: Uint8Array): IssuerCandidate | undefined {
  let anchor: IssuerCandidate | undefined
  try {
    anchor = issuerCandidate(parseCertificate(der))
  } catch (error) {
    if (error instanceof SpiffeError) return undefined
    throw error
  }
  if (anchor === undefined) return undefined
  try {
    return { ...anchor, key: createPublicKey({ key: Buffer.from(anchor.certificate.publicKey), format: 'der', type: 'spki' }) }
  } catch {
    // Such as a point that is not on its curve.
    return undefined
  }
}
