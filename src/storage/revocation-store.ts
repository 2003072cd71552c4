import type { CertificateDigest, Revocation } from '../spiffe/revocation.ts'
import type { SpiffeId } from '../spiffe/spiffe-id.ts'

export type RevocationTarget =
  | { readonly kind: 'svid', readonly subject: SpiffeId, readonly digest: CertificateDigest, readonly notAfter: Date }
  /** Stands until then, or until the last certificate expires if that is later. */
  | { readonly kind: 'spiffe_id' | 'node', readonly subject: SpiffeId, readonly until: Date }

export type RevocationOrder = RevocationTarget & { readonly reason: string, readonly revokedBy: string }

/** Who and what is not trusted any more. All replicas and agents hear of each change. */
export interface RevocationStore {
  /**
   * Revokes with all certificates that the record of issuance has of it, and bans the agent of a node, in one transaction. What is revoked
   * already stays one revocation, which learns what is new.
   * @throws {SpiffeError} `agent_not_found` for a node that is no agent and was issued nothing
   */
  revoke (order: RevocationOrder): Promise<Revocation>
  /** In the order in which they were made; those that have expired stay until they are pruned. */
  list (): Promise<readonly Revocation[]>
  /** The agent of a node stays banned. @throws {SpiffeError} `revocation_not_found` */
  lift (id: string): Promise<Revocation>
  /** @returns those that had expired */
  prune (now: Date): Promise<readonly Revocation[]>
}
