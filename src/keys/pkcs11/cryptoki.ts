import { createRequire } from 'node:module'

/** The numbers of PKCS#11 2.40 that are used here, by the names of its header. */
export const ck = {
  CKA_CLASS: 0x0, CKA_TOKEN: 0x1, CKA_PRIVATE: 0x2, CKA_LABEL: 0x3, CKA_KEY_TYPE: 0x100, CKA_ID: 0x102, CKA_SENSITIVE: 0x103,
  CKA_ENCRYPT: 0x104, CKA_DECRYPT: 0x105, CKA_WRAP: 0x106, CKA_UNWRAP: 0x107, CKA_SIGN: 0x108, CKA_VERIFY: 0x10a,
  CKA_DERIVE: 0x10c, CKA_MODULUS: 0x120, CKA_MODULUS_BITS: 0x121, CKA_PUBLIC_EXPONENT: 0x122, CKA_EXTRACTABLE: 0x162,
  CKA_EC_PARAMS: 0x180, CKA_EC_POINT: 0x181, CKO_PUBLIC_KEY: 2, CKO_PRIVATE_KEY: 3, CKO_SECRET_KEY: 4, CKM_RSA_PKCS_KEY_PAIR_GEN: 0x0,
  CKM_RSA_PKCS: 0x1, CKM_EC_KEY_PAIR_GEN: 0x1040, CKM_ECDSA: 0x1041, CKM_AES_GCM: 0x1087, CKU_USER: 1,
  CKF_RW_SESSION: 2, CKF_SERIAL_SESSION: 4,
  CKR_OK: 0, CKR_GENERAL_ERROR: 0x5, CKR_AEAD_DECRYPT_FAILED: 0x35, CKR_ENCRYPTED_DATA_INVALID: 0x40,
  CKR_ENCRYPTED_DATA_LEN_RANGE: 0x41,
  CKR_KEY_HANDLE_INVALID: 0x60, CKR_OBJECT_HANDLE_INVALID: 0x82, CKR_PIN_INCORRECT: 0xa0, CKR_PIN_LOCKED: 0xa4,
  CKR_USER_ALREADY_LOGGED_IN: 0x100, CKR_CRYPTOKI_ALREADY_INITIALIZED: 0x191
} as const

export interface Attribute { readonly type: number, readonly value: Uint8Array }

/** A call that did not return CKR_OK. */
export class CryptokiError extends Error {
  readonly rv: number

  constructor (call: string, rv: number) {
    super(`${call} returned 0x${rv.toString(16)}`)
    this.rv = rv
  }
}

type Koffi = typeof import('koffi')
type Call = (...values: unknown[]) => number | bigint

/** The calls of a PKCS#11 module. Each holds up this thread until the token has answered: for a process of its own. */
export class Cryptoki {
  readonly #library: ReturnType<Koffi['load']>
  readonly #calls = new Map<string, Call>()

  /** @param path of the shared library @throws when it cannot be loaded */
  constructor (path: string) {
    const koffi = createRequire(import.meta.url)('koffi') as Koffi
    koffi.struct('CK_ATTRIBUTE', { type: 'unsigned long', pValue: 'void *', ulValueLen: 'unsigned long' })
    koffi.struct('CK_MECHANISM', { mechanism: 'unsigned long', pParameter: 'void *', ulParameterLen: 'unsigned long' })
    koffi.struct('CK_GCM_PARAMS', {
      pIv: 'void *', ulIvLen: 'unsigned long', ulIvBits: 'unsigned long', pAAD: 'void *', ulAADLen: 'unsigned long',
      ulTagBits: 'unsigned long'
    })
    koffi.struct('CK_GCM_MECHANISM', { mechanism: 'unsigned long', pParameter: 'CK_GCM_PARAMS *', ulParameterLen: 'unsigned long' })
    try {
      this.#library = koffi.load(path)
    } catch (error) {
      throw new Error(`${path}: ${(error as Error).message}`, { cause: error })
    }
  }

  /** Logs in to the token with this label. @returns the session */
  openSession (tokenLabel: string, pin: string): number {
    this.#ask('C_Initialize', 'void *', [null], ck.CKR_CRYPTOKI_ALREADY_INITIALIZED)
    const slot = this.#slots().find(slot => this.#labelOf(slot) === tokenLabel)
    if (slot === undefined) throw new Error(`no slot holds a token labelled ${JSON.stringify(tokenLabel)}`)
    const session = [0]
    this.#ask('C_OpenSession', 'unsigned long, unsigned long, void *, void *, _Out_ unsigned long *', [
      slot, ck.CKF_SERIAL_SESSION | ck.CKF_RW_SESSION, null, null, session
    ])
    const bytes = Buffer.from(pin)
    this.#ask('C_Login', 'unsigned long, unsigned long, uint8_t *, unsigned long', [
      session[0], ck.CKU_USER, bytes, bytes.length
    ], ck.CKR_USER_ALREADY_LOGGED_IN)
    return Number(session[0])
  }

  generateKeyPair (
    session: number, mechanism: number, publicKey: readonly Attribute[], privateKey: readonly Attribute[]
  ): [number, number] {
    const [publicHandle, privateHandle] = [[0], [0]]
    this.#ask('C_GenerateKeyPair', 'unsigned long, CK_MECHANISM *, CK_ATTRIBUTE *, unsigned long, CK_ATTRIBUTE *, unsigned long, ' +
      '_Out_ unsigned long *, _Out_ unsigned long *', [
      session, mechanismOf(mechanism), template(publicKey), publicKey.length, template(privateKey), privateKey.length,
      publicHandle, privateHandle
    ])
    return [Number(publicHandle[0]), Number(privateHandle[0])]
  }

  /** At most two. */
  find (session: number, attributes: readonly Attribute[]): number[] {
    this.#ask('C_FindObjectsInit', 'unsigned long, CK_ATTRIBUTE *, unsigned long', [session, template(attributes), attributes.length])
    try {
      const handles = new BigUint64Array(2)
      const count = [0]
      this.#ask('C_FindObjects', 'unsigned long, void *, unsigned long, _Out_ unsigned long *', [session, handles, handles.length, count])
      return [...handles.subarray(0, Number(count[0]))].map(Number)
    } finally {
      this.#ask('C_FindObjectsFinal', 'unsigned long', [session])
    }
  }

  /** @param longest what the attribute has is refused when it is longer */
  attribute (session: number, object: number, type: number, longest: number): Uint8Array {
    const value = Buffer.alloc(longest)
    const asked = [{ type, pValue: value, ulValueLen: longest }]
    this.#ask('C_GetAttributeValue', 'unsigned long, unsigned long, _Inout_ CK_ATTRIBUTE *, unsigned long', [session, object, asked, 1])
    const length = Number((asked[0] as { ulValueLen: number | bigint }).ulValueLen)
    if (!(length > 0 && length <= longest)) throw new Error(`attribute 0x${type.toString(16)} has a length of ${length}`)
    return value.subarray(0, length)
  }

  sign (session: number, mechanism: number, key: number, data: Uint8Array): Uint8Array {
    this.#ask('C_SignInit', 'unsigned long, CK_MECHANISM *, unsigned long', [session, mechanismOf(mechanism), key])
    const signature = Buffer.alloc(1_024)
    const length = [signature.length]
    this.#ask('C_Sign', 'unsigned long, uint8_t *, unsigned long, uint8_t *, _Inout_ unsigned long *', [
      session, data, data.length, signature, length
    ])
    return signature.subarray(0, Number(length[0]))
  }

  /** AES-GCM. @param nonce 12 bytes; some tokens put one of their own there. @returns with the tag, 16 bytes, behind */
  encrypt (session: number, key: number, nonce: Uint8Array, data: Uint8Array): Uint8Array {
    return this.#gcm('Encrypt', session, key, nonce, data)
  }

  /** @param sealed as `encrypt` returns it */
  decrypt (session: number, key: number, nonce: Uint8Array, sealed: Uint8Array): Uint8Array {
    return this.#gcm('Decrypt', session, key, nonce, sealed)
  }

  destroy (session: number, object: number): void {
    this.#ask('C_DestroyObject', 'unsigned long, unsigned long', [session, object])
  }

  #gcm (way: 'Encrypt' | 'Decrypt', session: number, key: number, nonce: Uint8Array, data: Uint8Array): Uint8Array {
    const parameter = { pIv: nonce, ulIvLen: nonce.length, ulIvBits: nonce.length * 8, pAAD: null, ulAADLen: 0, ulTagBits: 128 }
    this.#ask(`C_${way}Init`, 'unsigned long, CK_GCM_MECHANISM *, unsigned long', [
      session, [{ mechanism: ck.CKM_AES_GCM, pParameter: [parameter], ulParameterLen: 48 }], key
    ])
    const out = Buffer.alloc(data.length + 32)
    const length = [out.length]
    this.#ask(`C_${way}`, 'unsigned long, uint8_t *, unsigned long, uint8_t *, _Inout_ unsigned long *', [
      session, data, data.length, out, length
    ])
    return out.subarray(0, Number(length[0]))
  }

  #slots (): number[] {
    const slots = new BigUint64Array(256)
    const count = [slots.length]
    this.#ask('C_GetSlotList', 'uint8_t, void *, _Inout_ unsigned long *', [1, slots, count])
    return [...slots.subarray(0, Number(count[0]))].map(Number)
  }

  /** 32 characters, blanks at the end left out; CK_TOKEN_INFO begins with it. */
  #labelOf (slot: number): string {
    const info = Buffer.alloc(1_024)
    this.#ask('C_GetTokenInfo', 'unsigned long, void *', [slot, info])
    return info.subarray(0, 32).toString('utf8').trimEnd()
  }

  #ask (name: string, parameters: string, values: readonly unknown[], alsoFine: number = ck.CKR_OK): void {
    let call = this.#calls.get(name)
    if (call === undefined) {
      call = this.#library.func(`unsigned long ${name}(${parameters})`) as Call
      this.#calls.set(name, call)
    }
    const rv = Number(call(...values))
    if (rv !== ck.CKR_OK && rv !== alsoFine) throw new CryptokiError(name, rv)
  }
}

/** CK_ULONG, and the classes and types made of it: 64 bits on the platforms that koffi's prebuilt libraries are for. */
export function ulong (value: number): Uint8Array {
  const bytes = Buffer.alloc(8)
  bytes.writeBigUInt64LE(BigInt(value))
  return bytes
}

function template (attributes: readonly Attribute[]) {
  return attributes.map(({ type, value }) => ({ type, pValue: value, ulValueLen: value.length }))
}

function mechanismOf (mechanism: number) { return [{ mechanism, pParameter: null, ulParameterLen: 0 }] }
