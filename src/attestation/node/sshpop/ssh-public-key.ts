import { createPublicKey, type JsonWebKey, type KeyObject } from 'node:crypto'
import { sshMalformed, SshReader } from './ssh-encoding.ts'

/** Keys of OpenSSH hosts and their CAs; DSA is broken, and keys of security keys (`sk-…`) are no host's. */
export type SshKeyType = 'ssh-ed25519' | 'ssh-rsa' | SshEcdsaType
export type SshEcdsaType = 'ecdsa-sha2-nistp256' | 'ecdsa-sha2-nistp384' | 'ecdsa-sha2-nistp521'

export interface SshPublicKey {
  readonly type: SshKeyType
  readonly key: KeyObject
}

const rsaBits = { least: 2_048, most: 8_192 }

interface Curve { readonly name: string, readonly crv: string, readonly octets: number, readonly hash: string }

/** What each type of ECDSA is about, and the hash that goes with it (RFC 5656 §6.2.1). */
export const sshCurves: Readonly<Record<SshEcdsaType, Curve>> = {
  'ecdsa-sha2-nistp256': { name: 'nistp256', crv: 'P-256', octets: 32, hash: 'sha256' },
  'ecdsa-sha2-nistp384': { name: 'nistp384', crv: 'P-384', octets: 48, hash: 'sha384' },
  'ecdsa-sha2-nistp521': { name: 'nistp521', crv: 'P-521', octets: 66, hash: 'sha512' }
}

export function isSshKeyType (type: string): type is SshKeyType {
  return type === 'ssh-ed25519' || type === 'ssh-rsa' || isEcdsaType(type)
}

export function isEcdsaType (type: string): type is SshEcdsaType { return Object.hasOwn(sshCurves, type) }

/** Reads a public key (RFC 4253 §6.6, RFC 5656 §3.1, RFC 8709 §4). @throws {SpiffeError} `attestation_malformed` */
export function parseSshPublicKey (blob: Uint8Array, what: string): SshPublicKey {
  const reader = new SshReader(blob, what)
  const type = reader.readText()
  if (!isSshKeyType(type)) throw sshMalformed(`${what} is of a type that is not accepted: ${JSON.stringify(type.slice(0, 64))}`)
  const key = readKeyFields(reader, type, what)
  reader.finish()
  return { type, key }
}

/** What follows the type, in public keys and in certificates. @throws {SpiffeError} `attestation_malformed` */
export function readKeyFields (reader: SshReader, type: SshKeyType, what: string): KeyObject {
  if (type === 'ssh-ed25519') {
    const point = reader.readString()
    if (point.length !== 32) throw sshMalformed(`${what} has an Ed25519 key of ${point.length} bytes instead of 32`)
    return keyOf({ kty: 'OKP', crv: 'Ed25519', x: point.toString('base64url') }, what)
  }
  if (type === 'ssh-rsa') {
    const [exponent, modulus] = [reader.readPositive(), reader.readPositive()]
    return readRsa(exponent, modulus, what)
  }
  const curve = sshCurves[type]
  if (reader.readText() !== curve.name) throw sshMalformed(`${what} is on another curve than its type says`)
  return keyOf(ecPointOf(reader.readString(), curve, what), what)
}

/** An uncompressed point as a JWK. @throws {SpiffeError} `attestation_malformed` */
export function ecPointOf (point: Buffer, { crv, octets }: Curve, what: string): JsonWebKey {
  if (point[0] !== 4 || point.length !== 1 + 2 * octets) throw sshMalformed(`${what} has a point that is not in uncompressed form`)
  return {
    kty: 'EC', crv, x: point.subarray(1, 1 + octets).toString('base64url'), y: point.subarray(1 + octets).toString('base64url')
  }
}

function readRsa (exponent: Buffer, modulus: Buffer, what: string): KeyObject {
  const bits = modulus.length * 8 - (Math.clz32(modulus[0] as number) - 24)
  if (bits < rsaBits.least || bits > rsaBits.most) {
    throw sshMalformed(`${what} is an RSA key of ${bits} bits, outside ${rsaBits.least} to ${rsaBits.most}`)
  }
  const isOdd = (number: Buffer) => number.at(-1)! % 2 === 1
  if (exponent.length > 4 || (exponent.length === 1 && exponent[0]! < 3) || !isOdd(exponent) || !isOdd(modulus)) {
    throw sshMalformed(`${what} is an RSA key with an exponent or modulus that is not accepted`)
  }
  return keyOf({ kty: 'RSA', n: modulus.toString('base64url'), e: exponent.toString('base64url') }, what)
}

function keyOf (jwk: JsonWebKey, what: string): KeyObject {
  try {
    return createPublicKey({ key: jwk, format: 'jwk' })
  } catch (error) {
    throw sshMalformed(`${what} is no key: ${(error as Error).message}`)
  }
}
