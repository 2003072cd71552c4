import { parseStrictJsonObject } from '../spiffe/strict-json.ts'
import { keyTypes, type KeyType } from '../x509/key-type.ts'

/** Bytes of a row; some twenty locations. */
const maxLength = 16 * 1024
/** What a wrapped key begins with is a version number, far below. */
const brace = 0x7b

/** Where a private key is that is kept elsewhere. Not secret; it is what a row of the database holds in place of a wrapped key. */
export interface KeyReference {
  /** The key manager that can use it, e.g. `aws_kms`. */
  readonly manager: string
  /** As the manager names it there, e.g. an ARN. */
  readonly location: string
  readonly type: KeyType
  /** SubjectPublicKeyInfo, DER. */
  readonly publicKey: Uint8Array
  /** Keys that had this ID before and are to be removed there, oldest first. */
  readonly retired: readonly string[]
}

export function isKeyReference (row: Uint8Array): boolean { return row[0] === brace }

export function formatKeyReference ({ publicKey, ...rest }: KeyReference): Uint8Array {
  return Buffer.from(JSON.stringify({ ...rest, publicKey: Buffer.from(publicKey).toString('base64') }))
}

/** @returns `undefined` when it is no reference */
export function parseKeyReference (row: Uint8Array): KeyReference | undefined {
  try {
    const { manager, location, type, publicKey, retired } = parseStrictJsonObject(row, { maxLength })
    const known = keyTypes.find(known => known === type)
    const locations = Array.isArray(retired) && retired.every(item => typeof item === 'string') ? retired : undefined
    if (typeof manager !== 'string' || typeof location !== 'string' || typeof publicKey !== 'string') return undefined
    if (known === undefined || locations === undefined) return undefined
    return { manager, location, type: known, publicKey: new Uint8Array(Buffer.from(publicKey, 'base64')), retired: locations }
  } catch {
    return undefined
  }
}
