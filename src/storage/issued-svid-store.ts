import { SpiffeError } from '../spiffe/errors.ts'
import type { CertificateDigest } from '../spiffe/revocation.ts'
import type { SpiffeId } from '../spiffe/spiffe-id.ts'

/** One X509-SVID that was signed. */
export interface IssuedSvid {
  readonly digest: CertificateDigest
  /** Lower-case hex without leading zeros. */
  readonly serialNumber: string
  readonly spiffeId: SpiffeId
  /** The node it was issued to; `undefined` for one that an operator had minted. */
  readonly agentId: SpiffeId | undefined
  /** Which replica signed it. */
  readonly replicaId: string
  readonly issuedAt: Date
  readonly notAfter: Date
}

/** What of a record is refused: `id` or `node` is revoked. */
export type RefusedSvids = ReadonlyMap<IssuedSvid, 'id' | 'node'>

/** Every X509-SVID that was signed, until it expires: what a revocation of an ID or a node finds its certificates by. */
export interface IssuedSvidStore {
  /**
   * Records SVIDs before they are given out. Either a revocation that is made at the same time sees the record, or the record sees the
   * revocation: nothing slips through between the two.
   * @returns those that must not be given out, since their ID or node is revoked; they are not recorded
   */
  record (svids: readonly IssuedSvid[]): Promise<RefusedSvids>
  /** Records SVIDs that were given out before: revocations that cover them learn of them. Doing so twice is harmless. */
  recordLate (svids: readonly IssuedSvid[]): Promise<void>
  findByDigest (digest: CertificateDigest): Promise<IssuedSvid | undefined>
  /** Serial numbers are random: more than one is found only where two authorities drew the same. */
  findBySerial (serialNumber: string): Promise<readonly IssuedSvid[]>
  /** @returns how many records had expired, of SVIDs that were written together when the last of them had */
  prune (now: Date): Promise<number>
}

/** What is said to who asked for an SVID that must not be given out. */
export function refusalOf ({ spiffeId, agentId }: IssuedSvid, why: 'id' | 'node'): SpiffeError {
  return why === 'id'
    ? new SpiffeError('spiffe_id_revoked', `${spiffeId} is revoked`)
    : new SpiffeError('agent_banned', `agent ${agentId} is revoked`)
}
