import { openUnixChannel } from '../rpc/channel.ts'
import { systemClock } from '../runtime/clock.ts'
import { silentLogger } from '../runtime/logger.ts'
import type { ControllerConfig } from './controller-config.ts'
import type { Declaration } from './desired/declare-pod.ts'
import type { FederationChanges } from './desired/desired-federation.ts'
import { DesiredState } from './desired/desired-state.ts'
import { diffEntries, type EntryChanges } from './desired/diff-entries.ts'
import { ClusterCache } from './kubernetes/cluster-cache.ts'
import { KubeClient } from './kubernetes/kube-client.ts'
import { readLeaseNote } from './kubernetes/lease.ts'
import { planFederation } from './reconcile/reconcile-federation.ts'
import { EntryMirror } from './server/entry-mirror.ts'
import { ServerEntries } from './server/server-entries.ts'
import { ServerFederation } from './server/server-federation.ts'

/** What a controller that led now would do, and why it would leave things out. */
export interface ControllerPlan {
  readonly entries: EntryChanges
  readonly federation: Pick<FederationChanges, 'create' | 'update' | 'remove' | 'foreign'>
  /** By key, who wants the entry: the first counts, the others are masked. */
  readonly declared: (key: string) => readonly Declaration[]
  /** Resources that cannot be read, and pods for which templates make no entry. */
  readonly problems: ReadonlyArray<{ readonly kind: string, readonly name: string, readonly message: string }>
  readonly masked: ReadonlyArray<{ readonly kind: string, readonly name: string, readonly by: string, readonly what: string }>
  /** Pods that are selected and have no entry for now, by reason. */
  readonly skipped: Readonly<Record<string, number>>
}

/**
 * Reads cluster and server once, and compares them as the controller does. Changes nothing.
 * @param socketPath of the server's admin socket
 * @throws {SpiffeError} `kubernetes_unreachable` @throws {RpcError}
 */
export async function planChanges (config: ControllerConfig, socketPath: string, signal: AbortSignal): Promise<ControllerPlan> {
  await using scope = new AsyncDisposableStack()
  const client = scope.use(KubeClient.of(config.kubeConfigFile))
  const channel = scope.use(openUnixChannel(socketPath))
  const { kinds, cares, naming } = config.scope
  const view = new ClusterCache(naming.trustDomain, kinds, { client, clock: systemClock, log: silentLogger })
  const [note] = await Promise.all([readLeaseNote(client, config.lease, signal), view.readAll(signal)])
  const desired = new DesiredState(config.scope)
  const keys = new Set(desired.refresh(view))
  const mirror = new EntryMirror(config.entryIdPrefix)
  await mirror.read(new ServerEntries(channel).list(signal), key => desired.of(key).length > 0)
  for (const key of mirror.keys()) keys.add(key)
  const declared = (key: string) => desired.of(key)
  const federated = view.federatedTrustDomains().filter(cares)
  const federation = await planFederation(federated, new ServerFederation(channel, naming.trustDomain), note, signal)

  const resources = [...view.spiffeIds(), ...view.staticEntries(), ...federated].filter(cares)
  const problems = resources.flatMap(({ kind, name, spec }) => 'error' in spec ? [{ kind, name, message: spec.error.message }] : [])
  for (const { uid, kind, name, spec } of view.staticEntries()) {
    const message = desired.staticFailures.get(uid)
    if (message !== undefined && !('error' in spec)) problems.push({ kind, name, message })
  }
  const skipped: Record<string, number> = {}
  for (const { uid } of view.pods()) {
    for (const { by, reason, rule } of desired.outcomeOf(uid)?.skips ?? []) {
      if (reason === 'render_failed' && by !== undefined) problems.push({ kind: by.kind, name: by.name, message: rule ?? '' })
      else skipped[reason] = (skipped[reason] ?? 0) + 1
    }
  }
  const masked = [...desired.keys()].flatMap(key => {
    const [first, ...others] = declared(key)
    const by = `${first?.by.kind} ${first?.by.name}`
    return others.map(({ by: { kind, name }, entry }) => ({ kind, name, by, what: entry.spiffeId as string }))
  })
  for (const [uid, by] of federation.masked) {
    const resource = federated.find(other => other.uid === uid)
    if (resource === undefined || 'error' in resource.spec) continue
    const { kind, name, spec } = resource
    masked.push({ kind, name, by: `${kind} ${by}`, what: spec.value.relationship.trustDomain })
  }
  return { entries: diffEntries(keys, declared, mirror, config.entryIdPrefix), federation, declared, problems, masked, skipped }
}

/** Whether applying would change the server. */
export function changesAnything ({ entries, federation }: Pick<ControllerPlan, 'entries' | 'federation'>): boolean {
  const lists = [entries.create, entries.update, entries.remove, federation.create, federation.update, federation.remove]
  return lists.some(list => list.length > 0)
}
