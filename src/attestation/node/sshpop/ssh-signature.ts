import { type KeyObject, sign, verify } from 'node:crypto'
import { encodePositive, SshReader } from './ssh-encoding.ts'
import { isEcdsaType, sshCurves, type SshKeyType, type SshPublicKey } from './ssh-public-key.ts'

/** How a signature was made and its bytes, as each format has them (RFC 4253 §6.6, RFC 5656 §3.1.2, RFC 8332 §3, RFC 8709 §6). */
export interface SshSignature { readonly format: string, readonly blob: Uint8Array }

const rsaHashes: ReadonlyMap<string, string> = new Map([['rsa-sha2-256', 'sha256'], ['rsa-sha2-512', 'sha512']])

/** @param type of the key */
export function signSsh (data: Uint8Array, type: SshKeyType, key: KeyObject): SshSignature {
  if (type === 'ssh-ed25519') return { format: type, blob: sign(null, data, key) }
  if (type === 'ssh-rsa') return { format: 'rsa-sha2-256', blob: sign('sha256', data, key) }
  const { octets, hash } = sshCurves[type]
  const both = sign(hash, data, { key, dsaEncoding: 'ieee-p1363' })
  return { format: type, blob: Buffer.concat([encodePositive(both.subarray(0, octets)), encodePositive(both.subarray(octets))]) }
}

/**
 * Whether a signature is right.
 * @param sha1 whether RSA with SHA-1 (`ssh-rsa`) will do: where the signer cannot choose what is signed
 * @throws {SpiffeError} `attestation_malformed` for an ECDSA signature that is not two numbers
 */
export function isSignedBy (
  { type, key }: SshPublicKey, data: Uint8Array, { format, blob }: SshSignature, { sha1 }: { readonly sha1: boolean }
): boolean {
  if (type === 'ssh-rsa') {
    const hash = format === 'ssh-rsa' && sha1 ? 'sha1' : rsaHashes.get(format)
    return hash !== undefined && verify(hash, data, key, blob)
  }
  if (format !== type) return false
  if (!isEcdsaType(type)) return verify(null, data, key, blob)
  const { octets, hash } = sshCurves[type]
  const reader = new SshReader(blob, 'the signature')
  const both = Buffer.alloc(2 * octets)
  for (const end of [octets, 2 * octets]) {
    const number = reader.readPositive()
    if (number.length > octets) return false
    both.set(number, end - number.length)
  }
  reader.finish()
  return verify(hash, data, { key, dsaEncoding: 'ieee-p1363' }, both)
}
