import { createPublicKey, type KeyObject } from 'node:crypto'
import type { Bundle } from '../spiffe/bundle.ts'
import { SpiffeError } from '../spiffe/errors.ts'
import { parsePublicKey, type PublicKey } from '../x509/public-key.ts'

export interface VerificationKey {
  readonly keyId: string
  readonly facts: PublicKey
  readonly key: KeyObject
}

/** Bundles are values: a changed one is another object. */
const cache = new WeakMap<Bundle, readonly VerificationKey[]>()

/** The JWT keys of a bundle, tainted ones included, without those that cannot be used (AMB-24). */
export function verificationKeysOf (bundle: Bundle): readonly VerificationKey[] {
  const known = cache.get(bundle)
  if (known !== undefined) return known
  const keys = bundle.jwtAuthorities.flatMap(({ keyId, publicKey }) => readKey(keyId, publicKey) ?? [])
  cache.set(bundle, keys)
  return keys
}

function readKey (keyId: string, publicKey: Uint8Array): VerificationKey | undefined {
  let facts: PublicKey
  try {
    facts = parsePublicKey(publicKey)
  } catch (error) {
    if (error instanceof SpiffeError) return undefined
    throw error
  }
  try {
    return { keyId, facts, key: createPublicKey({ key: Buffer.from(publicKey), format: 'der', type: 'spki' }) }
  } catch {
    // Such as a point that is not on its curve.
    return undefined
  }
}
