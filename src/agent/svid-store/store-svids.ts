import type { SvidStore } from '../../plugins/svid-store.ts'
import type { Clock } from '../../runtime/clock.ts'
import type { Logger } from '../../runtime/logger.ts'
import { isStop, runTasks } from '../../runtime/tasks.ts'
import type { Bundle } from '../../spiffe/bundle.ts'
import type { Entry } from '../../spiffe/entry.ts'
import { codeOf } from '../../spiffe/errors.ts'
import type { X509Svid } from '../../spiffe/svid.ts'
import type { TrustDomain } from '../../spiffe/trust-domain.ts'
import type { NodeIdentities } from '../node-identities.ts'

export interface StoreSvidsDeps {
  readonly stores: readonly SvidStore[]
  readonly identities: Pick<NodeIdentities, 'synced' | 'storable' | 'bundle' | 'federatedBundles' | 'isRevoked' | 'watchSettled'>
  readonly clock: Pick<Clock, 'monotonicMs'>
  readonly log: Logger
}

/** What was put, and of what. */
interface Put {
  readonly entry: Entry
  readonly metadata: readonly string[]
  readonly svid: X509Svid
  readonly bundles: readonly (Bundle | undefined)[]
}

/** As often as SPIRE looks. */
const retryMs = 5_000

/**
 * Keeps in each store what belongs there, until the signal aborts: puts what is new or has changed, its bundles included, and deletes that
 * of entries which are gone. What fails is tried again. A restarted agent puts all again, and knows nothing of what was put before.
 */
export async function storeSvids (deps: StoreSvidsDeps, signal: AbortSignal): Promise<void> {
  await runTasks(signal, [
    (signal: AbortSignal) => tellUnknown(deps, signal),
    ...deps.stores.map(store => (signal: AbortSignal) => keepStored(store, deps, signal))
  ])
}

/** Entries of stores that there are not: nothing of them is signed. */
async function tellUnknown ({ stores, identities, log }: StoreSvidsDeps, signal: AbortSignal): Promise<void> {
  const known = new Set(stores.map(({ name }) => name))
  const told = new WeakSet<Entry>()
  for await (const _ of identities.watchSettled(signal)) {
    for (const { entry } of identities.storable) {
      const store = entry.selectors[0]?.type ?? ''
      if (known.has(store) || told.has(entry)) continue
      told.add(entry)
      log.warn({ entry: entry.id, spiffeId: entry.spiffeId, store }, 'the entry\'s SVID is for a store that this agent does not have')
    }
  }
}

async function keepStored (store: SvidStore, deps: StoreSvidsDeps, signal: AbortSignal): Promise<void> {
  const { identities, clock } = deps
  const log = deps.log.child({ store: store.name })
  const stored = new Map<string, Put>()
  /** Of entries that are gone, or lie elsewhere now; by where they lie. */
  const leftOver = new Map<string, Put>()
  let notBeforeMs = Number.NEGATIVE_INFINITY
  // At least every five seconds.
  for await (const _ of identities.watchSettled(signal)) {
    // What is not known yet, or not any more, is not gone.
    if (!identities.synced || clock.monotonicMs() < notBeforeMs) continue
    if (!await bringUpToDate()) notBeforeMs = clock.monotonicMs() + retryMs
  }

  /** @returns whether nothing is left to do */
  async function bringUpToDate (): Promise<boolean> {
    const wanted = identities.storable.filter(({ entry }) => entry.selectors[0]?.type === store.name)
      .toSorted((a, b) => a.entry.id < b.entry.id ? -1 : 1)
      .map(({ entry, svid }) => ({ entry, svid, metadata: entry.selectors.map(({ value }) => value) }))
    const byId = new Map(wanted.map(({ entry, ...next }) => [entry.id, next]))
    const taken = new Set(wanted.map(({ metadata }) => placeOf(metadata)))
    for (const [id, put] of stored) {
      const place = placeOf(put.metadata)
      const next = byId.get(id)
      // A revoked one is of no use until there is the next.
      const isUseless = identities.isRevoked(put.svid) && next?.svid === undefined
      if (next !== undefined && placeOf(next.metadata) === place && !isUseless) continue
      stored.delete(id)
      // What takes its place overwrites it.
      if (!taken.has(place) || isUseless) leftOver.set(place, put)
    }
    let isAll = true
    for (const [place, put] of leftOver) {
      if (await remove(put)) leftOver.delete(place)
      else isAll = false
    }
    for (const { entry, svid, metadata } of wanted) {
      if (svid === undefined || leftOver.has(placeOf(metadata))) continue
      if (!await put({ entry, metadata, svid, bundles: bundlesOf(entry) })) isAll = false
    }
    return isAll
  }

  function bundlesOf ({ federatesWith }: Entry): (Bundle | undefined)[] {
    return [identities.bundle, ...federatesWith.map(domain => identities.federatedBundles.get(domain))]
  }

  async function put (next: Put): Promise<boolean> {
    const { entry, metadata, svid, bundles } = next
    const before = stored.get(entry.id)
    if (before?.svid === svid && bundles.length === before.bundles.length && bundles.every((bundle, at) => bundle === before.bundles[at])) {
      return true
    }
    const facts = { entry: entry.id, spiffeId: entry.spiffeId }
    try {
      await store.putX509Svid({
        metadata, svid, bundle: authoritiesOf(identities.bundle), federatedBundles: federated(entry, identities)
      }, signal)
      stored.set(entry.id, next)
      log.debug({ ...facts, expires: svid.notAfter.toISOString() }, 'SVID stored')
      return true
    } catch (error) {
      if (isStop(error, signal)) throw error
      log.warn({ ...facts, err: error }, 'the SVID could not be stored; trying again')
      return false
    }
  }

  async function remove ({ entry, metadata }: Put): Promise<boolean> {
    const facts = { entry: entry.id, spiffeId: entry.spiffeId }
    try {
      await store.deleteX509Svid(metadata, signal)
      log.debug(facts, 'SVID deleted from its store')
      return true
    } catch (error) {
      if (isStop(error, signal)) throw error
      if (codeOf(error) === 'argument_invalid') return true
      log.warn({ ...facts, err: error }, 'the SVID could not be deleted from its store; trying again')
      return false
    }
  }
}

function federated (
  { federatesWith }: Entry, { bundle: own, federatedBundles }: StoreSvidsDeps['identities']
): ReadonlyMap<TrustDomain, readonly Uint8Array[]> {
  return new Map(federatesWith.flatMap(domain => {
    const bundle = domain === own.trustDomain ? undefined : federatedBundles.get(domain)
    return bundle === undefined ? [] : [[domain, authoritiesOf(bundle)] as const]
  }))
}

function authoritiesOf ({ x509Authorities }: Bundle): Uint8Array[] { return x509Authorities.map(({ certificate }) => certificate) }

function placeOf (metadata: readonly string[]): string { return JSON.stringify(metadata) }
