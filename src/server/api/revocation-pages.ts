import type { Revocation } from '../../spiffe/revocation.ts'
import type { RevocationInit, RevocationsInit } from '../../wire/generated/agent-sync.ts'
import type { RevocationStep } from '../push/agent-feed.ts'

/** Entries and bundles come beside them in the same message, of which gRPC takes four million. */
const pageBytes = 1_000_000
const digestsPerPart = 20_000
/** On the wire, with the field's tag; of a part, its kind and time. */
const [digestBytes, otherBytes] = [34, 40]

/**
 * What an agent is told of revocations, in messages of bearable size: one that names more certificates than fit is told in parts. An ID
 * that is denied as a whole is so by its name: its certificates need not be named.
 */
export function revocationPages ({ whole, revocations, removedIds }: RevocationStep): RevocationsInit[] {
  const pages: Array<RevocationsInit & { readonly revocations: RevocationInit[] }> = [{ whole, removedIds, revocations: [] }]
  let room = pageBytes
  for (const part of revocations.flatMap(revocationParts)) {
    const size = otherBytes + part.id.length + part.subject.length + digestBytes * part.certificateDigests.length
    if (size > room) {
      pages.push({ revocations: [] })
      room = pageBytes
    }
    pages.at(-1)?.revocations.push(part)
    room -= size
  }
  return pages
}

function revocationParts ({ id, kind, subject, certificateDigests, expiresAt }: Revocation) {
  const digests = kind === 'spiffe_id' ? [] : certificateDigests.map(hex => Buffer.from(hex, 'hex'))
  return Array.from({ length: Math.max(1, Math.ceil(digests.length / digestsPerPart)) }, (_, index) => ({
    id,
    kind,
    subject,
    certificateDigests: digests.slice(index * digestsPerPart, (index + 1) * digestsPerPart),
    expiresAt: BigInt(expiresAt.getTime())
  }))
}
