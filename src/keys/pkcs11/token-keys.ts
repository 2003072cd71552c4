import { createPublicKey, randomBytes } from 'node:crypto'
import { encodeSequence, encodeUnsigned } from '../../x509/der-writer.ts'
import type { KeyType } from '../../x509/key-type.ts'
import { ck, CryptokiError, ulong, type Attribute, type Cryptoki } from './cryptoki.ts'

/** OIDs of the curves, DER, and the octets of a coordinate. */
const curves = {
  'ec-p256': { params: Buffer.from('06082a8648ce3d030107', 'hex'), octets: 32, name: 'P-256' },
  'ec-p384': { params: Buffer.from('06052b81040022', 'hex'), octets: 48, name: 'P-384' }
} as const
/** DigestInfo of SHA-256 up to the digest (RFC 8017 §9.2, note 1): the token is given the digest alone. */
const sha256Info = Buffer.from('3031300d060960864801650304020105000420', 'hex')
const nonceBytes = 12
const yes = Uint8Array.of(1)
const no = Uint8Array.of(0)

/** Keys of a token, in one session. A key's name is the label of its two halves. */
export class TokenKeys {
  readonly #cryptoki: Cryptoki
  readonly #session: number
  readonly #privateKeys = new Map<string, number>()

  constructor (cryptoki: Cryptoki, session: number) {
    this.#cryptoki = cryptoki
    this.#session = session
  }

  /** Sensitive, never extractable, of no use but signing. @returns SubjectPublicKeyInfo, DER */
  create (name: string, type: KeyType): Uint8Array {
    const curve = type === 'ec-p256' || type === 'ec-p384' ? curves[type] : undefined
    const named: Attribute[] = [
      { type: ck.CKA_TOKEN, value: yes }, { type: ck.CKA_LABEL, value: Buffer.from(name) }, { type: ck.CKA_ID, value: Buffer.from(name) }
    ]
    const kind: Attribute[] = curve === undefined
      ? [
        { type: ck.CKA_MODULUS_BITS, value: ulong(type === 'rsa-2048' ? 2048 : 4096) },
        { type: ck.CKA_PUBLIC_EXPONENT, value: Uint8Array.of(1, 0, 1) }
      ]
      : [{ type: ck.CKA_EC_PARAMS, value: curve.params }]
    const [publicKey, privateKey] = this.#cryptoki.generateKeyPair(
      this.#session, curve === undefined ? ck.CKM_RSA_PKCS_KEY_PAIR_GEN : ck.CKM_EC_KEY_PAIR_GEN,
      [...named, { type: ck.CKA_VERIFY, value: yes }, { type: ck.CKA_ENCRYPT, value: no }, { type: ck.CKA_WRAP, value: no }, ...kind],
      [
        ...named, { type: ck.CKA_PRIVATE, value: yes }, { type: ck.CKA_SENSITIVE, value: yes }, { type: ck.CKA_EXTRACTABLE, value: no },
        { type: ck.CKA_SIGN, value: yes }, { type: ck.CKA_DECRYPT, value: no }, { type: ck.CKA_UNWRAP, value: no },
        { type: ck.CKA_DERIVE, value: no }
      ]
    )
    this.#privateKeys.set(name, privateKey)
    return this.#publicKeyOf(publicKey, curve)
  }

  /** `undefined` when either half is gone. */
  publicKeyOf (name: string): Uint8Array | undefined {
    const [publicKey] = this.#find(name, ck.CKO_PUBLIC_KEY)
    const [privateKey] = this.#find(name, ck.CKO_PRIVATE_KEY)
    if (publicKey === undefined || privateKey === undefined) return undefined
    const isEc = Buffer.from(this.#cryptoki.attribute(this.#session, publicKey, ck.CKA_KEY_TYPE, 8)).readUInt8() === 3
    const params = isEc ? Buffer.from(this.#cryptoki.attribute(this.#session, publicKey, ck.CKA_EC_PARAMS, 64)) : undefined
    const curve = params && Object.values(curves).find(curve => curve.params.equals(params))
    return isEc && curve === undefined ? undefined : this.#publicKeyOf(publicKey, curve)
  }

  /** @returns as `KeyService.sign` has it; `undefined` when the key is gone */
  sign (name: string, type: KeyType, digest: Uint8Array): Uint8Array | undefined {
    for (const known of [true, false]) {
      const key = known ? this.#privateKeys.get(name) : this.#find(name, ck.CKO_PRIVATE_KEY)[0]
      if (key === undefined) continue
      this.#privateKeys.set(name, key)
      try {
        return this.#signWith(key, type, digest)
      } catch (error) {
        if (!(error instanceof CryptokiError) || !isGone(error.rv)) throw error
        this.#privateKeys.delete(name)
      }
    }
    return undefined
  }

  /** With an AES key. @returns nonce and AES-GCM; `undefined` when there is no such key */
  encrypt (name: string, data: Uint8Array): Uint8Array | undefined {
    const [key] = this.#find(name, ck.CKO_SECRET_KEY)
    if (key === undefined) return undefined
    const nonce = randomBytes(nonceBytes)
    const sealed = this.#cryptoki.encrypt(this.#session, key, nonce, data)
    return Buffer.concat([nonce, sealed])
  }

  /** @param data as `encrypt` returns it */
  decrypt (name: string, data: Uint8Array): Uint8Array | undefined {
    const [key] = this.#find(name, ck.CKO_SECRET_KEY)
    if (key === undefined) return undefined
    return this.#cryptoki.decrypt(this.#session, key, Buffer.from(data.subarray(0, nonceBytes)), Buffer.from(data.subarray(nonceBytes)))
  }

  remove (name: string): void {
    this.#privateKeys.delete(name)
    for (const half of [ck.CKO_PRIVATE_KEY, ck.CKO_PUBLIC_KEY]) {
      for (const object of this.#find(name, half)) this.#cryptoki.destroy(this.#session, object)
    }
  }

  #find (name: string, kind: number): number[] {
    return this.#cryptoki.find(this.#session, [
      { type: ck.CKA_CLASS, value: ulong(kind) }, { type: ck.CKA_LABEL, value: Buffer.from(name) }
    ])
  }

  #signWith (key: number, type: KeyType, digest: Uint8Array): Uint8Array {
    if (!type.startsWith('ec-')) return this.#cryptoki.sign(this.#session, ck.CKM_RSA_PKCS, key, Buffer.concat([sha256Info, digest]))
    const both = this.#cryptoki.sign(this.#session, ck.CKM_ECDSA, key, digest)
    const half = both.length / 2
    return encodeSequence(encodeUnsigned(both.subarray(0, half)), encodeUnsigned(both.subarray(half)))
  }

  #publicKeyOf (object: number, curve: typeof curves[keyof typeof curves] | undefined): Uint8Array {
    const read = (type: number, longest: number) => Buffer.from(this.#cryptoki.attribute(this.#session, object, type, longest))
    const jwk = curve === undefined
      ? { kty: 'RSA', n: read(ck.CKA_MODULUS, 1_024).toString('base64url'), e: read(ck.CKA_PUBLIC_EXPONENT, 16).toString('base64url') }
      : { kty: 'EC', crv: curve.name, ...coordinates(read(ck.CKA_EC_POINT, 256), curve.octets) }
    return new Uint8Array(createPublicKey({ key: jwk, format: 'jwk' }).export({ format: 'der', type: 'spki' }))
  }
}

/** @param point an OCTET STRING with the uncompressed point; some tokens leave the OCTET STRING out */
function coordinates (point: Buffer, octets: number): { readonly x: string, readonly y: string } {
  const start = point.length - 2 * octets
  if (point[start - 1] !== 4 || (start !== 1 && start !== 3)) throw new Error('the token\'s public key is no uncompressed point')
  return { x: point.subarray(start, start + octets).toString('base64url'), y: point.subarray(start + octets).toString('base64url') }
}

function isGone (rv: number): boolean { return rv === ck.CKR_KEY_HANDLE_INVALID || rv === ck.CKR_OBJECT_HANDLE_INVALID }
