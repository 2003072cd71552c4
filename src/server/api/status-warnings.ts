import type { AuthorityKind, AuthorityRecord } from '../../ca/authority-record.ts'
import type { Lease } from '../../storage/lease-store.ts'
import type { Replica } from '../../storage/replica-store.ts'
import { liveReplicaMs } from '../replication/report-replica.ts'

export interface StatusFacts {
  readonly replicas: readonly Replica[]
  readonly lease: Lease | undefined
  readonly sharedAuthorities: boolean
  /** What signs now, of each kind that is in use. */
  readonly active: ReadonlyMap<AuthorityKind, Pick<AuthorityRecord, 'authorityId' | 'notBefore' | 'notAfter'> | undefined>
  /** The replica that answers, and whether it is told of changes. */
  readonly replicaId: string
  readonly nudged: boolean
  readonly maxStaleMs: number
  readonly now: Date
}

/** What an operator should look at, a sentence each; empty when all is well. */
export function statusWarnings (facts: StatusFacts): string[] {
  const { replicas, sharedAuthorities, active } = facts
  return [
    ...replicas.flatMap(replica => replicaWarnings(replica, facts)),
    ...leaseWarnings(facts),
    ...[...active.keys()].flatMap(kind => authorityWarnings(kind, facts)),
    ...!sharedAuthorities && replicas.length > 1
      ? ['replicas do not share their keys: each has a root and a JWT key of its own; use the key manager "database"']
      : []
  ]
}

function replicaWarnings ({ id, name, seenAt, facts }: Replica, { replicaId, nudged, maxStaleMs, now }: StatusFacts): string[] {
  const who = `replica ${id} (${name})`
  const silentMs = now.getTime() - seenAt.getTime()
  if (silentMs > liveReplicaMs) {
    return [`${who} has not reported for ${Math.round(silentMs / 1000)} s: it is down, or cut off from the database`]
  }
  const staleMs = typeof facts['staleMs'] === 'number' ? facts['staleMs'] : 0
  const told = id === replicaId ? nudged : facts['nudged'] === true
  return [
    ...staleMs > maxStaleMs ? [`${who} has not seen the database for ${Math.round(staleMs / 1000)} s and answers no agent`] : [],
    ...told ? [] : [`${who} is not told of changes (LISTEN brings nothing): it polls; check datastore_direct_url`]
  ]
}

function leaseWarnings ({ lease, now }: StatusFacts): string[] {
  // Given up by a replica that stopped, or not taken yet: the next one looks every few seconds.
  if (lease === undefined || lease.expiresAt.getTime() === 0) return []
  if (now.getTime() - lease.expiresAt.getTime() <= liveReplicaMs) return []
  return ['no replica does the chores: authorities are not rotated and what has expired is not removed']
}

/** Its successor takes over before half of an authority's life. */
function authorityWarnings (kind: AuthorityKind, facts: StatusFacts): string[] {
  const { now } = facts
  const active = facts.active.get(kind)
  if (active === undefined || active.notAfter <= now) return [`there is no valid ${kind} authority: nothing can be signed`]
  const half = (active.notBefore.getTime() + active.notAfter.getTime()) / 2
  return now.getTime() > half ? [`${kind} authority ${active.authorityId} is past half of its life and has no successor yet`] : []
}
