import { OwnBundle } from '../../src/ca/own-bundle.ts'
import type { Clock } from '../../src/runtime/clock.ts'
import { silentLogger } from '../../src/runtime/logger.ts'
import { Replica } from '../../src/server/replication/replica.ts'
import type { TrustDomain } from '../../src/spiffe/trust-domain.ts'
import type { Datastore } from '../../src/storage/datastore.ts'
import { ManualClock } from './clock.ts'

/** A replica's memory on a datastore, without authorities; it moves when told to catch up. */
export async function openTestReplica (store: Datastore, trustDomain: TrustDomain, clock: Clock = new ManualClock()): Promise<Replica> {
  return await Replica.open({
    store,
    trustDomain,
    ownBundle: await OwnBundle.open(trustDomain, store.bundles),
    onAuthorities: async () => {},
    maxStaleMs: 10_000,
    clock,
    log: silentLogger
  })
}
