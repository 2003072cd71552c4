import { randomUUID } from 'node:crypto'
import { hostname } from 'node:os'
import { openUnixChannel } from '../rpc/channel.ts'
import { serveDiagnostics } from '../rpc/serve-diagnostics.ts'
import type { Clock } from '../runtime/clock.ts'
import type { Logger } from '../runtime/logger.ts'
import type { Metrics } from '../runtime/metrics.ts'
import { runTasks } from '../runtime/tasks.ts'
import { untilAborted } from '../runtime/until-aborted.ts'
import type { ControllerConfig } from './controller-config.ts'
import { controllerMetrics } from './controller-metrics.ts'
import { EntriesInUse, type OwnEntry } from './in-use/entries-in-use.ts'
import { ClusterCache } from './kubernetes/cluster-cache.ts'
import { KubeClient } from './kubernetes/kube-client.ts'
import { Lease } from './kubernetes/lease.ts'
import { Reconciler } from './reconcile/reconciler.ts'
import { ServerConvergence } from './server/server-convergence.ts'
import { ServerEntries } from './server/server-entries.ts'
import { ServerFederation } from './server/server-federation.ts'
import { resourceStatuses } from './status/resource-statuses.ts'
import { StatusWriter } from './status/status-writer.ts'

export interface ControllerDeps {
  /** Path of the server's admin socket. */
  readonly socketPath: string
  readonly clock: Clock
  readonly log: Logger
  readonly metrics: Metrics
}

/** Bytes of one page of entries. */
const maxMessageBytes = 64 * 1024 * 1024
const longestBackoffMs = 1_000

/**
 * Follows the cluster, and while it leads makes the server's entries and relationships what the cluster's resources say, until the signal
 * aborts. An API server or a server that is away is waited for.
 * @throws {SpiffeError} `address_unusable`
 */
export async function runController (config: ControllerConfig, { socketPath, clock, log, metrics }: ControllerDeps, signal: AbortSignal) {
  await using scope = new AsyncDisposableStack()
  const client = scope.use(KubeClient.of(config.kubeConfigFile))
  const channel = scope.use(openUnixChannel(socketPath, { maxMessageBytes, maxBackoffMs: longestBackoffMs }))
  const shown = controllerMetrics(metrics)
  const identity = `${hostname()}_${randomUUID()}`
  const { kinds, cares, naming } = config.scope
  const cache = new ClusterCache(naming.trustDomain, kinds, { client, clock, log, onRestart: kind => shown.restarted(kind) })
  const lease = new Lease({ ...config.lease, identity }, { client, clock, log })
  const reconciler = new Reconciler({ scope: config.scope, prefix: config.entryIdPrefix, fullEveryMs: config.fullEveryMs }, {
    view: cache, entries: new ServerEntries(channel), federation: new ServerFederation(channel, naming.trustDomain), clock, log,
    metrics: shown,
    onRound: written => {
      uses.written(written)
      status.changed()
    }
  })
  const uses: EntriesInUse = new EntriesInUse({
    entries: () => ownEntries(reconciler), convergence: new ServerConvergence(channel), clock, log, metrics: shown,
    onLook: () => status.changed()
  })
  const status: StatusWriter = new StatusWriter({
    client, clock, log, metrics: shown, identity,
    statuses: () => resourceStatuses(reconciler.desired, cache, reconciler, reconciler.federation, cares, uses)
  })
  cache.listen(reconciler)
  shown.show({
    entries: () => entriesByResource(reconciler, () => true),
    inUse: () => uses.ignorance !== undefined ? []
      : entriesByResource(reconciler, entry => entry !== undefined && uses.of(entry) === 'used'),
    isLeader: () => lease.isHeld, objects: () => cache.sizes()
  })
  const probes = {
    cluster: () => {
      const { unread } = cache
      if (unread.length > 0) throw new Error(`not read yet: ${unread.join(', ')}`)
    }
  }
  await runTasks(signal, [
    signal => serveDiagnostics(config, { metrics, probes, log }, signal),
    signal => cache.run(signal),
    async signal => {
      await Promise.race([cache.synced(), untilAborted(signal)])
      signal.throwIfAborted()
      log.info({ prefix: config.entryIdPrefix }, 'controller has read the cluster')
      await lease.run((tenure, signal) => runTasks(signal, [
        signal => reconciler.run(tenure, signal),
        signal => uses.run(signal),
        signal => status.run(tenure, signal)
      ]), signal)
    }
  ])
}

/** @param counts whether an entry does; it is given as it is on the server */
function * entriesByResource (
  reconciler: Reconciler, counts: (entry: OwnEntry | undefined) => boolean
): Generator<[number, { readonly kind: string, readonly name: string }]> {
  const { desired } = reconciler
  const counted = new Map<string, { count: number, readonly kind: string, readonly name: string }>()
  for (const key of desired.keys()) {
    const by = desired.of(key)[0]?.by
    if (by === undefined) continue
    const of = counted.get(by.uid) ?? { count: 0, kind: by.kind, name: by.name }
    if (counts(ownEntry(reconciler, key))) of.count++
    counted.set(by.uid, of)
  }
  for (const { count, kind, name } of counted.values()) yield [count, { kind, name }]
}

function * ownEntries (reconciler: Reconciler): Generator<OwnEntry> {
  for (const key of reconciler.desired.keys()) {
    const entry = ownEntry(reconciler, key)
    if (entry !== undefined) yield entry
  }
}

function ownEntry (reconciler: Reconciler, key: string): OwnEntry | undefined {
  const [id, declared] = [reconciler.idOf(key), reconciler.desired.of(key)[0]]
  return id === undefined || declared === undefined ? undefined : { key, id, parentId: declared.entry.parentId }
}
