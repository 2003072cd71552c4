import { createPrivateKey, createPublicKey, type JsonWebKey, type KeyObject } from 'node:crypto'
import { sshMalformed, SshReader } from './ssh-encoding.ts'
import { ecPointOf, isEcdsaType, isSshKeyType, sshCurves, type SshKeyType } from './ssh-public-key.ts'

export interface SshPrivateKey {
  readonly type: SshKeyType
  readonly key: KeyObject
  readonly publicKey: KeyObject
}

const armor = /^-----BEGIN OPENSSH PRIVATE KEY-----\s+([A-Za-z0-9+/=\s]+?)\s*-----END OPENSSH PRIVATE KEY-----\s*$/
const magic = 'openssh-key-v1\0'

/**
 * Reads a host's key: OpenSSH's own form without a passphrase (PROTOCOL.key), or PEM as older versions wrote it.
 * @throws {SpiffeError} `attestation_malformed`; nothing of it is quoted
 */
export function parseSshPrivateKey (text: string): SshPrivateKey {
  const [, base64] = armor.exec(text) ?? []
  const key = base64 === undefined ? readPem(text) : createdFrom(readOpenSsh(Buffer.from(base64, 'base64')))
  return { type: typeOf(key), key, publicKey: createPublicKey(key) }
}

function readPem (text: string): KeyObject {
  try {
    return createPrivateKey(text)
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    throw sshMalformed(text.includes('ENCRYPTED') ? 'the key has a passphrase' : `no private key of OpenSSH or in PEM (${code})`)
  }
}

function readOpenSsh (bytes: Buffer): JsonWebKey {
  const outer = new SshReader(bytes, 'the private key')
  if (outer.take(magic.length).toString('latin1') !== magic) throw sshMalformed('the private key is of an unknown version')
  const [cipher, kdf] = [outer.readText(), outer.readText()]
  outer.readString()
  if (cipher !== 'none' || kdf !== 'none') throw sshMalformed('the private key has a passphrase')
  if (outer.readUint32() !== 1) throw sshMalformed('the private key is not alone in its file')
  outer.readString() // The public key, again.
  const inner = new SshReader(outer.readString(), 'the private key')
  outer.finish()
  if (inner.readUint32() !== inner.readUint32()) throw sshMalformed('the private key is damaged')
  const type = inner.readText()
  if (!isSshKeyType(type)) throw sshMalformed(`the private key is of a type that is not accepted: ${JSON.stringify(type.slice(0, 64))}`)
  const jwk = readFields(inner, type)
  inner.readString() // The comment.
  for (let expected = 1; !inner.isDone; expected++) {
    if (inner.take(1)[0] !== (expected & 0xff)) throw sshMalformed('the private key is damaged')
  }
  return jwk
}

function readFields (reader: SshReader, type: SshKeyType): JsonWebKey {
  if (type === 'ssh-ed25519') {
    const [point, both] = [reader.readString(), reader.readString()]
    if (both.length !== 64) throw sshMalformed('the private key is damaged')
    return { kty: 'OKP', crv: 'Ed25519', x: point.toString('base64url'), d: both.subarray(0, 32).toString('base64url') }
  }
  if (isEcdsaType(type)) {
    reader.readText()
    const point = ecPointOf(reader.readString(), sshCurves[type], 'the private key')
    const secret = reader.readPositive()
    return { ...point, d: padded(secret, sshCurves[type].octets).toString('base64url') }
  }
  const [n, e, d, qi, p, q] = [1, 2, 3, 4, 5, 6].map(() => reader.readPositive()) as [Buffer, Buffer, Buffer, Buffer, Buffer, Buffer]
  const text = (number: Buffer) => number.toString('base64url')
  return {
    kty: 'RSA', n: text(n), e: text(e), d: text(d), qi: text(qi), p: text(p), q: text(q),
    dp: text(remainder(d, p)), dq: text(remainder(d, q))
  }
}

/** Of the secret exponent by a prime less one, which this form leaves out. */
function remainder (exponent: Buffer, prime: Buffer): Buffer {
  const number = (bytes: Buffer) => BigInt(`0x${bytes.toString('hex')}`)
  const hex = (number(exponent) % (number(prime) - 1n)).toString(16)
  return Buffer.from(hex.length % 2 === 1 ? `0${hex}` : hex, 'hex')
}

function padded (number: Buffer, octets: number): Buffer {
  if (number.length > octets) throw sshMalformed('the private key is damaged')
  return Buffer.concat([Buffer.alloc(octets - number.length), number])
}

function createdFrom (jwk: JsonWebKey): KeyObject {
  try {
    return createPrivateKey({ key: jwk, format: 'jwk' })
  } catch {
    throw sshMalformed('the private key is damaged')
  }
}

function typeOf ({ asymmetricKeyType: kind, asymmetricKeyDetails: details }: KeyObject): SshKeyType {
  const curves = new Map<string | undefined, SshKeyType>([
    ['prime256v1', 'ecdsa-sha2-nistp256'], ['secp384r1', 'ecdsa-sha2-nistp384'], ['secp521r1', 'ecdsa-sha2-nistp521']
  ])
  const type = kind === 'ed25519' ? 'ssh-ed25519' : kind === 'rsa' ? 'ssh-rsa' : curves.get(details?.namedCurve)
  if (type === undefined) throw sshMalformed(`a private key of kind ${kind} is not accepted`)
  return type
}
