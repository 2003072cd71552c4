import type { RevocationRecord } from '../../wire/generated/revocation.ts'
import { counted, formatRows, formatUnixSeconds } from '../pretty.ts'

const width = 16

/** Lines for people. */
export function formatRevocation (record: RevocationRecord): string {
  const { id, kind, subject, certificateDigests: digests, reason, revokedBy, revokedAt, expiresAt } = record
  return formatRows([
    ['Revocation ID', id],
    [kind === 'node' ? 'Node' : kind === 'svid' ? 'SVID of' : 'SPIFFE ID', subject],
    ['Certificates', kind === 'svid' ? hexOf(digests[0]) : counted(digests.length, 'certificate', 'certificates')],
    ['Reason', reason === '' ? undefined : reason],
    ['Revoked by', revokedBy],
    ['Revoked at', formatUnixSeconds(revokedAt)],
    ['Expires at', formatUnixSeconds(expiresAt)]
  ], width)
}

/** For `--output json`: digests in hex, as other tools print them. */
export function encodeRevocation (record: RevocationRecord): object {
  return { ...record, certificateDigests: record.certificateDigests.map(hexOf) }
}

function hexOf (bytes: Uint8Array | undefined): string { return Buffer.from(bytes ?? []).toString('hex') }
