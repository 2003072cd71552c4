import type { Bundle } from '../spiffe/bundle.ts'
import { codeOf, SpiffeError } from '../spiffe/errors.ts'
import type { TrustDomain } from '../spiffe/trust-domain.ts'
import type { Clock } from '../runtime/clock.ts'
import type { Logger } from '../runtime/logger.ts'
import { isStop } from '../runtime/tasks.ts'
import { timed, type Took } from '../runtime/took.ts'
import { EntryIndex } from './entry-index.ts'
import { endsAgent } from './ends-agent.ts'
import type { NodeIdentities } from './node-identities.ts'
import { ownBundleOf, usableBundle } from './own-bundle.ts'
import type { ServerClient } from './server-client.ts'

/** The calls a synchronisation makes. */
export type SyncClient = Pick<ServerClient, 'fetchEntries' | 'fetchBundle' | 'fetchFederatedBundle'>

export interface SyncDeps {
  readonly client: SyncClient
  readonly identities: NodeIdentities
  readonly trustDomain: TrustDomain
  readonly intervalMs: number
  readonly onBundle: (bundle: Bundle) => Promise<void>
  /** After each success. */
  readonly onSynced: () => void
  /** After each attempt. */
  readonly onTried?: ((took: Took) => void) | undefined
  readonly clock: Clock
  readonly log: Logger
  readonly random: () => number
}

/** SPIRE's agents back off to 8 minutes; ours stay near enough to notice a server that is back. */
const longestBackOffMs = 60_000
/** A node without any SVID does not wait longer for its first, whatever the interval. */
const emptyIntervalMs = 5000

/**
 * Polls entries and bundles until the signal aborts, more slowly while it fails.
 * @param rounds after so many it returns, and after a failure
 * @throws what ends the agent: see `endsAgent`
 */
export async function runSync (deps: SyncDeps, signal: AbortSignal, rounds = Number.POSITIVE_INFINITY): Promise<void> {
  const { clock, log, random, intervalMs } = deps
  for (let waitMs = intervalMs, round = 1; ; round++) {
    try {
      await timed(clock, deps.onTried, () => syncOnce(deps, signal))
      waitMs = deps.identities.svids > 0 ? intervalMs : Math.min(intervalMs, emptyIntervalMs)
      deps.onSynced()
    } catch (error) {
      if (isStop(error, signal) || endsAgent(error)) throw error
      waitMs = Math.min(longestBackOffMs, waitMs * 1.5)
      log.warn({ err: error, retryInMs: Math.round(waitMs) }, 'synchronisation with the server failed')
      if (rounds !== Number.POSITIVE_INFINITY) round = rounds
    }
    if (round >= rounds) return await clock.sleep(waitMs * (0.9 + 0.2 * random()), signal)
    await clock.sleep(waitMs * (0.9 + 0.2 * random()), signal)
  }
}

/** One round: entries, own bundle, and the bundles of the domains that entries federate with. */
export async function syncOnce ({ client, identities, trustDomain, onBundle, log }: SyncDeps, signal: AbortSignal): Promise<void> {
  const known = new Map([...identities.entries.values()].map(entry => [entry.id, entry]))
  const [entries, bundle] = await Promise.all([client.fetchEntries(known, signal), client.fetchBundle(signal)])
  const own = ownBundleOf(bundle, trustDomain)
  const domains = new Set(entries.flatMap(entry => entry.federatesWith))
  const federated = await fetchFederated(client, domains, identities.federatedBundles, log, signal)
  const unchangedOwn = sameContent(own, identities.bundle)
  if (!unchangedOwn) await onBundle(own)
  identities.setBundles(unchangedOwn ? identities.bundle : own, federated)
  const unchanged = entries.length === known.size && entries.every(entry => known.get(entry.id) === entry)
  if (!unchanged || !identities.synced) identities.setEntries(new EntryIndex(entries))
}

/** Gives `known` itself when nothing changed. */
async function fetchFederated (
  client: SyncClient, domains: ReadonlySet<TrustDomain>, known: ReadonlyMap<TrustDomain, Bundle>, log: Logger, signal: AbortSignal
): Promise<ReadonlyMap<TrustDomain, Bundle>> {
  const found = new Map<TrustDomain, Bundle>()
  const wanted = [...domains].toSorted()
  for (let start = 0; start < wanted.length; start += 10) {
    await Promise.all(wanted.slice(start, start + 10).map(async trustDomain => {
      const before = known.get(trustDomain)
      const usable = await unlessBroken(() => fetchPartner(client, trustDomain, log, signal), before, trustDomain, log)
      if (usable !== undefined) found.set(trustDomain, before !== undefined && sameContent(before, usable) ? before : usable)
    }))
  }
  const unchanged = found.size === known.size && [...found].every(([trustDomain, bundle]) => known.get(trustDomain) === bundle)
  return unchanged ? known : found
}

async function fetchPartner (client: SyncClient, trustDomain: TrustDomain, log: Logger, signal: AbortSignal): Promise<Bundle | undefined> {
  const bundle = await client.fetchFederatedBundle(trustDomain, signal)
  if (bundle === undefined) {
    log.warn({ trustDomain }, 'the server has no bundle for a federated trust domain')
    return undefined
  }
  if (bundle.trustDomain !== trustDomain) {
    throw new SpiffeError('bundle_malformed', `the server sent the bundle of ${bundle.trustDomain} instead of ${trustDomain}`)
  }
  return usableBundle(bundle)
}

/** One partner's broken bundle costs that partner its update, and nobody else anything. */
async function unlessBroken (
  fetch: () => Promise<Bundle | undefined>, before: Bundle | undefined, trustDomain: TrustDomain, log: Logger
): Promise<Bundle | undefined> {
  try {
    return await fetch()
  } catch (error) {
    if (codeOf(error) === undefined) throw error
    log.warn({ trustDomain, err: error }, 'a federated bundle cannot be used; the last good one stays')
    return before
  }
}

/** Sequence numbers alone do not tell: a foreign bundle may carry none. */
function sameContent (a: Bundle, b: Bundle): boolean {
  return a.sequenceNumber === b.sequenceNumber && fingerprint(a) === fingerprint(b)
}

function fingerprint ({ x509Authorities, jwtAuthorities, refreshHintSeconds }: Bundle): string {
  return JSON.stringify([
    refreshHintSeconds ?? null,
    x509Authorities.map(({ certificate, tainted }) => [Buffer.from(certificate).toString('base64'), tainted]),
    jwtAuthorities.map(({ keyId, publicKey, tainted }) => [keyId, Buffer.from(publicKey).toString('base64'), tainted])
  ])
}
