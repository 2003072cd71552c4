import { randomInt } from 'node:crypto'
import { appendAuthorities, removeJwtAuthority, taintJwtAuthority } from '../spiffe/bundle-change.ts'
import type { Signer } from '../x509/signer.ts'
import type { KeyType } from '../x509/key-type.ts'
import type { JwtAuthority } from '../spiffe/bundle.ts'
import type { AuthorityWriter } from './authority-record.ts'
import type { AuthorityProfile } from './authority-slots.ts'

export interface JwtKey {
  /** The `kid` of everything it signs. */
  readonly keyId: string
  readonly signer: Signer
  readonly notAfter: Date
}

const keyIdAlphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789'

export interface JwtAuthorityOptions {
  readonly keyType: KeyType
  readonly lifetimeSeconds: number
  /** Publishes a key above this trust domain's own bundle, before it is published there; whatever it throws keeps the key from use. */
  readonly publishAbove?: ((key: JwtAuthority, writer: AuthorityWriter) => Promise<void>) | undefined
}

/** A JWT signing key per slot; published with `kid` and expiry (JWT-18). */
export function jwtProfile (options: JwtAuthorityOptions): AuthorityProfile<JwtKey> {
  return {
    kind: 'jwt',
    keyType: options.keyType,
    lifetimeSeconds: options.lifetimeSeconds,
    keyId: slot => `JWT-Signer-${slot}`,
    async create (key, slot, clock, writer) {
      const now = clock.now()
      const authorityId = Array.from({ length: 32 }, () => keyIdAlphabet[randomInt(keyIdAlphabet.length)]).join('')
      const notAfter = new Date(now.getTime() + options.lifetimeSeconds * 1000)
      await options.publishAbove?.({ keyId: authorityId, publicKey: key.publicKey, expiresAt: notAfter, tainted: false }, writer)
      return { authorityId, kind: 'jwt', slot, state: 'prepared', publicKey: key.publicKey, notBefore: now, notAfter }
    },
    hold: (record, signer) => ({ keyId: record.authorityId, signer, notAfter: record.notAfter }),
    publish: (bundle, record) => appendAuthorities(bundle, {
      jwtAuthorities: [{ keyId: record.authorityId, publicKey: record.publicKey, expiresAt: record.notAfter, tainted: false }]
    }),
    taint: (bundle, record) => taintJwtAuthority(bundle, record.authorityId),
    withdraw: (bundle, record) => removeJwtAuthority(bundle, record.authorityId),
    appended (bundle, authorityId) {
      const found = bundle.jwtAuthorities.find(({ keyId }) => keyId === authorityId)
      return found && {
        authorityId, kind: 'jwt', slot: 'A', state: found.tainted ? 'tainted' : 'old', publicKey: found.publicKey,
        notBefore: new Date(0), notAfter: found.expiresAt ?? new Date(0)
      }
    }
  }
}
