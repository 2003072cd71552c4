import { sshMalformed, SshReader } from './ssh-encoding.ts'
import { isSshKeyType, parseSshPublicKey, readKeyFields, type SshPublicKey } from './ssh-public-key.ts'
import type { SshSignature } from './ssh-signature.ts'

/** An OpenSSH certificate as it was read; nothing in it is verified. */
export interface SshCertificate {
  /** As in a file of OpenSSH, behind base64. */
  readonly raw: Uint8Array
  /** The part that is signed. */
  readonly signed: Uint8Array
  /** Whose certificate it is. */
  readonly subject: SshPublicKey
  readonly serial: bigint
  readonly kind: 'user' | 'host'
  readonly keyId: string
  readonly principals: readonly string[]
  /** Seconds since 1970; the last one is not part of the time. */
  readonly validAfter: bigint
  readonly validBefore: bigint
  /** Names. */
  readonly criticalOptions: readonly string[]
  /** As it stands in the certificate. */
  readonly authority: Uint8Array
  readonly signature: SshSignature
}

const suffix = '-cert-v01@openssh.com'
const maxSshCertificateBytes = 64 * 1024
const maxPrincipals = 256

/** Of `raw`, and of the type in front of it in a file. */
export function isCertificateType (type: string): boolean { return type.endsWith(suffix) }

/**
 * Reads a certificate (OpenSSH's PROTOCOL.certkeys); trailing bytes, names out of order and keys of other kinds are refused.
 * @throws {SpiffeError} `attestation_malformed`
 */
export function parseSshCertificate (raw: Uint8Array): SshCertificate {
  if (raw.length > maxSshCertificateBytes) throw sshMalformed(`the certificate is longer than ${maxSshCertificateBytes} bytes`)
  const reader = new SshReader(raw, 'the certificate')
  const certificateType = reader.readText()
  const type = isCertificateType(certificateType) ? certificateType.slice(0, -suffix.length) : ''
  if (!isSshKeyType(type)) throw sshMalformed(`no certificate of a type that is accepted: ${JSON.stringify(certificateType.slice(0, 64))}`)
  reader.readString() // The CA's nonce.
  const subject: SshPublicKey = { type, key: readKeyFields(reader, type, 'the certificate') }
  const serial = reader.readUint64()
  const kind = kindOf(reader.readUint32())
  const keyId = reader.readText()
  const principals = readPrincipals(reader.readString())
  const [validAfter, validBefore] = [reader.readUint64(), reader.readUint64()]
  const criticalOptions = readOptions(reader.readString(), 'the certificate\'s critical options')
  readOptions(reader.readString(), 'the certificate\'s extensions')
  reader.readString() // Reserved.
  const authority = reader.readString()
  const signed = raw.subarray(0, raw.length - reader.left)
  const signature = parseSshSignature(reader.readString())
  reader.finish()
  return {
    raw, signed, subject, serial, kind, keyId, principals, validAfter, validBefore, criticalOptions, authority, signature
  }
}

/** The key of who signed. @throws {SpiffeError} `attestation_malformed` for one of a kind that is not accepted */
export function authorityOf ({ authority }: SshCertificate): SshPublicKey {
  return parseSshPublicKey(authority, 'the certificate\'s CA key')
}

function parseSshSignature (bytes: Uint8Array): SshSignature {
  const reader = new SshReader(bytes, 'the certificate\'s signature')
  const signature = { format: reader.readText(), blob: reader.readString() }
  reader.finish()
  return signature
}

function kindOf (number: number): SshCertificate['kind'] {
  if (number === 1) return 'user'
  if (number === 2) return 'host'
  throw sshMalformed(`the certificate is of kind ${number}, which there is not`)
}

function readPrincipals (bytes: Uint8Array): string[] {
  const reader = new SshReader(bytes, 'the certificate\'s list of principals')
  const principals: string[] = []
  while (!reader.isDone) {
    if (principals.length === maxPrincipals) throw sshMalformed(`the certificate has more than ${maxPrincipals} principals`)
    principals.push(reader.readText())
  }
  return principals
}

/** Pairs in the order of their names, each name once. */
function readOptions (bytes: Uint8Array, what: string): string[] {
  const reader = new SshReader(bytes, what)
  const names: string[] = []
  while (!reader.isDone) {
    const [name, before] = [reader.readText(), names.at(-1)]
    if (before !== undefined && Buffer.compare(Buffer.from(name), Buffer.from(before)) <= 0) throw sshMalformed(`${what} are not in order`)
    const value = new SshReader(reader.readString(), what)
    if (!value.isDone) value.readString()
    value.finish()
    names.push(name)
  }
  return names
}
