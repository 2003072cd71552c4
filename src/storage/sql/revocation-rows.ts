import type { Revocation, RevocationKind } from '../../spiffe/revocation.ts'
import type { SpiffeId } from '../../spiffe/spiffe-id.ts'
import type { RevocationRow } from './schema.ts'

export function encodeRevocation (revocation: Revocation): RevocationRow {
  return {
    id: revocation.id,
    kind: revocation.kind,
    subject: revocation.subject,
    digests: JSON.stringify(revocation.certificateDigests),
    reason: revocation.reason,
    revoked_by: revocation.revokedBy,
    revoked_at: revocation.revokedAt.getTime(),
    expires_at: revocation.expiresAt.getTime()
  }
}

export function decodeRevocation (row: RevocationRow): Revocation {
  return {
    id: row.id,
    kind: row.kind as RevocationKind,
    subject: row.subject as SpiffeId,
    certificateDigests: JSON.parse(row.digests) as string[],
    reason: row.reason,
    revokedBy: row.revoked_by,
    revokedAt: new Date(row.revoked_at),
    expiresAt: new Date(row.expires_at)
  }
}
