import { hash } from 'node:crypto'
import { SpiffeError } from '../spiffe/errors.ts'
import type { CertificateDigest, Revocation } from '../spiffe/revocation.ts'
import type { SpiffeId } from '../spiffe/spiffe-id.ts'
import type { VerifiedX509Svid } from '../x509/verify-svid.ts'

/** What is revoked, in memory. Follows the log of changes: it forgets a revocation when the database does. */
export class StandingRevocations {
  #all: ReadonlyMap<string, Revocation> = new Map()
  #ids: ReadonlySet<SpiffeId> = new Set()
  #digests: ReadonlySet<CertificateDigest> = new Set()

  /** By id; another map after each change. */
  get all (): ReadonlyMap<string, Revocation> { return this.#all }
  /** Those that are revoked as a whole; the same set until it changes. */
  get ids (): ReadonlySet<SpiffeId> { return this.#ids }

  /** @param changes by id; `undefined`: it is lifted, or has expired */
  apply (changes: ReadonlyMap<string, Revocation | undefined>): void {
    if (changes.size === 0) return
    const all = new Map(this.#all)
    for (const [id, revocation] of changes) {
      if (revocation === undefined) all.delete(id)
      else all.set(id, revocation)
    }
    this.#all = all
    const ids = new Set([...all.values()].flatMap(({ kind, subject }) => kind === 'spiffe_id' ? [subject] : []))
    if (ids.symmetricDifference(this.#ids).size > 0) this.#ids = ids
    this.#digests = new Set([...all.values()].flatMap(({ kind, certificateDigests }) => kind === 'spiffe_id' ? [] : certificateDigests))
  }

  /** @throws {SpiffeError} `spiffe_id_revoked` */
  requireId (id: SpiffeId): void {
    if (this.#ids.has(id)) throw new SpiffeError('spiffe_id_revoked', `${id} is revoked`)
  }

  /** @throws {SpiffeError} `spiffe_id_revoked`, `svid_revoked` */
  requireSvid ({ id, leaf }: Pick<VerifiedX509Svid, 'id' | 'leaf'>): void {
    this.requireId(id)
    if (this.#digests.size > 0 && this.#digests.has(hash('sha256', leaf.raw))) {
      throw new SpiffeError('svid_revoked', `the SVID of ${id} with serial number ${leaf.serialNumber} is revoked`)
    }
  }
}
