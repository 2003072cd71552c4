import { SpiffeError } from '../spiffe/errors.ts'
import { encodeOid, encodeSequence } from './der-writer.ts'
import { encodeExtension } from './encode-extension.ts'
import { oid } from './oid.ts'

/** An extension of a certificate beyond those of its profile. */
export interface X509Extension {
  /** In dots. */
  readonly oid: string
  /** The extension's own DER. */
  readonly value: Uint8Array
  readonly critical: boolean
}

/** What makes a certificate an SVID, or a CA of its trust domain: nobody writes that but its profile. */
const ofProfile: ReadonlySet<string> = new Set([
  oid.subjectAltName, oid.keyUsage, oid.extendedKeyUsage, oid.basicConstraints, oid.subjectKeyIdentifier, oid.authorityKeyIdentifier,
  oid.nameConstraints
])
const mostBytes = 64 * 1024
const oidPattern = /^[0-2](\.(0|[1-9][0-9]{0,37})){1,30}$/

/**
 * @returns Extensions in DER, one after the other
 * @throws {SpiffeError} `argument_invalid`: one that the profile has, a critical one (X509-19: validators refuse those that they do not
 * know), one twice, no object identifier, or more than 64 KiB
 */
export function encodeExtraExtensions (extensions: readonly X509Extension[]): Uint8Array {
  const seen = new Set<string>()
  for (const { oid: id, critical } of extensions) {
    checkOid(id)
    if (ofProfile.has(id)) throw invalid(`the extension ${id}, which is for the SVID's profile to write,`)
    if (critical && id !== oid.certificatePolicies) throw invalid(`the critical extension ${id}, which validators do not know,`)
    if (seen.has(id)) throw invalid(`the extension ${id} twice`)
    seen.add(id)
  }
  const encoded = Buffer.concat(extensions.map(({ oid: id, value, critical }) => encodeExtension(id, critical, value)))
  if (encoded.length > mostBytes) throw invalid(`extensions of ${encoded.length} bytes`)
  return encoded
}

/** The extension certificatePolicies (RFC 5280 §4.2.1.4). @param policies object identifiers in dots */
export function policiesExtension (policies: readonly string[]): X509Extension {
  policies.forEach(checkOid)
  const value = encodeSequence(...policies.map(policy => encodeSequence(encodeOid(policy))))
  return { oid: oid.certificatePolicies, value, critical: false }
}

/** @throws {SpiffeError} `argument_invalid` */
export function checkOid (id: string): void {
  if (!oidPattern.test(id) || (!id.startsWith('2.') && Number(id.split('.')[1]) >= 40)) {
    throw invalid(`${JSON.stringify(id.slice(0, 64))}, which is no object identifier,`)
  }
}

function invalid (what: string): SpiffeError { return new SpiffeError('argument_invalid', `${what} is not issued`) }
