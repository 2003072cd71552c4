import type { Bundle } from '../spiffe/bundle.ts'
import { codeOf, type SpiffeError } from '../spiffe/errors.ts'
import { mostLocalEndpoints } from '../spiffe/service-endpoint.ts'
import type { SpiffeId } from '../spiffe/spiffe-id.ts'
import type { TrustDomain } from '../spiffe/trust-domain.ts'
import { isStop, runTasks } from '../runtime/tasks.ts'
import { timed } from '../runtime/took.ts'
import { version } from '../runtime/version.ts'
import { retryAfterMsOf, RpcError } from '../rpc/rpc-error.ts'
import type { LogPlace } from '../wire/cursor-codec.ts'
import { encodeCursor } from '../wire/cursor-codec.ts'
import { encodeEndpoint } from '../wire/service-codec.ts'
import type { SyncRequestInit } from '../wire/generated/agent-sync.ts'
import type { AgentSvid } from './agent-svid.ts'
import { endsAgent } from './ends-agent.ts'
import { EntryIndex } from './entry-index.ts'
import { Mailbox } from '../runtime/mailbox.ts'
import type { NodePolicies } from './node-policies.ts'
import type { NodeMesh } from './node-services.ts'
import { ownBundleOf } from './own-bundle.ts'
import { PushedState, type PushedStep } from './pushed-state.ts'
import type { Revocations } from './revocations.ts'
import type { ServerClient } from './server-client.ts'
import { lastingTrouble } from './server-trouble.ts'
import { runSync, type SyncDeps } from './sync.ts'

export interface FollowDeps extends Omit<SyncDeps, 'client'> {
  readonly client: SyncDeps['client'] & Pick<ServerClient, 'follow' | 'moveOn'>
  readonly agentId: SpiffeId
  /** The agent's own: nothing is acknowledged while it hangs on a root that is about to be revoked. */
  readonly ownSvid?: Pick<AgentSvid, 'untilUntainted'> | undefined
  /** `undefined`: this node has nothing to do with services. */
  readonly mesh?: NodeMesh | undefined
  readonly revocations: Revocations
  readonly policies: NodePolicies
  /** Up to where the agent knew everything when it started. */
  readonly cursor?: LogPlace | undefined
  /** After each step that was taken over. */
  readonly onStep?: (cursor: LogPlace) => void
  /** What will not go away by itself: `server_untrusted`, `agent_untrusted`. */
  readonly onTrouble?: (trouble: SpiffeError) => void
  /** Tells a server that does not push which version this agent is. */
  readonly postStatus: (signal: AbortSignal) => Promise<void>
}

const nothingOfServices = {
  services: new Map(), removedServiceIds: new Set<string>(), endpoints: new Map(), removedEndpointIds: new Set<string>()
}
const firstRetryMs = 200
const longestRetryMs = 60_000
/** Polls of a server that does not push before it is asked again whether it does. */
const pollsBetweenTries = 60

/**
 * Follows the server until the signal aborts: over one stream where it pushes, by polling where it does not (a SPIRE server).
 * @throws what ends the agent: see `endsAgent`
 */
export async function followServer (deps: FollowDeps, signal: AbortSignal): Promise<void> {
  const { client, clock, log, random } = deps
  const place = { cursor: deps.cursor }
  for (let retryMs = firstRetryMs; ;) {
    signal.throwIfAborted()
    let told = false
    const beganMs = clock.monotonicMs()
    let hintMs: number | undefined
    try {
      await followOnce(deps, place, () => { told = true }, signal)
      retryMs = firstRetryMs
      continue
    } catch (error) {
      if (isStop(error, signal) || endsAgent(error)) throw error
      if (told) retryMs = firstRetryMs
      if (error instanceof RpcError && error.status === 'UNIMPLEMENTED') {
        log.info({ everyMs: deps.intervalMs }, 'the server does not push changes: polling')
        // Such a server knows no services, and nothing of policies.
        deps.mesh?.services.take({ ...nothingOfServices, snapshot: true })
        deps.policies.presumeNone()
        await runSync({ ...deps, onSynced: onceThen(() => tellVersion(deps, signal), deps.onSynced) }, signal, pollsBetweenTries)
        place.cursor = undefined
        continue
      }
      hintMs = retryAfterMsOf(error, longestRetryMs)
      // Of what broke later, the steps before were told.
      if (!told) deps.onTried?.({ durationMs: clock.monotonicMs() - beganMs, error })
      report(error, hintMs ?? retryMs, deps)
      await client.moveOn()
    }
    // Agents that lost the same server do not come back in the same moment.
    await clock.sleep(hintMs ?? retryMs * random(), signal)
    retryMs = Math.min(longestRetryMs, retryMs * 2)
  }
}

function report (error: unknown, retryInMs: number, { log, onTrouble }: FollowDeps): void {
  const trouble = lastingTrouble(error)
  if (trouble === undefined) {
    log.warn({ err: error, retryInMs: Math.round(retryInMs) }, 'the server\'s changes cannot be followed; trying on')
    return
  }
  const { code, message, row: { next } } = trouble
  log.error({ code, reason: message, next, retryInMs: Math.round(retryInMs) }, 'no way back to the server without help; trying on')
  onTrouble?.(trouble)
}

async function tellVersion ({ postStatus, log }: FollowDeps, signal: AbortSignal): Promise<void> {
  try {
    await postStatus(signal)
  } catch (error) {
    log.debug({ err: error }, 'the server did not take the status')
  }
}

function onceThen (first: () => Promise<void>, always: () => void): () => void {
  let done = false
  return () => {
    always()
    if (done) return
    done = true
    void first()
  }
}

/** One stream: from where the agent stands to the stream's end. */
async function followOnce (
  deps: FollowDeps, place: { cursor: LogPlace | undefined }, onTold: () => void, signal: AbortSignal
): Promise<void> {
  const { client, identities, agentId, mesh, policies, clock, log } = deps
  const requests = new Mailbox<SyncRequestInit>()
  // Without the entries, services and policies of that time, what changed since is worth nothing.
  const knows = identities.synced && mesh?.services.synced !== false && policies.synced
  const resume = place.cursor === undefined || !knows ? {} : { resume: encodeCursor(place.cursor) }
  requests.put({ agentVersion: version, mesh: mesh !== undefined, policies: policies.report, ...resume })
  const state = new PushedState(agentId, log)
  const applied = { cursor: undefined as LogPlace | undefined, revision: 0 }
  const over = new AbortController()
  const stop = AbortSignal.any([signal, over.signal])
  await runTasks(stop, [
    async signal => {
      try {
        await client.follow(requests, async message => {
          onTold()
          const step = state.take(message)
          if (step === undefined) return
          await timed(clock, deps.onTried, async () => {
            await takeOver(step, deps)
            mesh?.services.take(step.mesh)
            if (step.policies !== undefined) policies.take(step.policies)
            else if (step.snapshot) policies.presumeNone()
            await policies.settled()
          })
          place.cursor = applied.cursor = step.cursor
          applied.revision = identities.revision
          deps.onSynced()
          deps.onStep?.(step.cursor)
          identities.touch()
        }, signal)
      } finally {
        over.abort(new Error('the stream has ended'))
      }
    },
    signal => acknowledge(requests, deps, applied, signal),
    signal => reportEndpoints(requests, deps, signal)
  ])
  requests.close()
}

/**
 * Says what is served: once every SVID that a step asked for is there, or could not be had, the node's proxy has answered, and the agent
 * itself does not need what a revocation that waits for this would take away. An SVID that the proxy refused is not served.
 */
async function acknowledge (
  requests: Mailbox<SyncRequestInit>,
  { identities, mesh, policies, ownSvid }: Pick<FollowDeps, 'identities' | 'mesh' | 'policies' | 'ownSvid'>,
  applied: { readonly cursor: LogPlace | undefined, readonly revision: number }, signal: AbortSignal
): Promise<void> {
  let last = ''
  for await (const settled of identities.watchSettled(signal)) {
    const { cursor, revision } = applied
    if (cursor === undefined || settled < revision) continue
    await mesh?.proxy?.settled(signal)
    await ownSvid?.untilUntainted(signal)
    const refused = mesh?.proxy?.refusedIds ?? new Set()
    const unproxied = refused.size === 0 ? [] : [...identities.entries.values()].filter(entry => refused.has(entry.spiffeId))
    const unserved = new Set([...identities.unservedEntryIds, ...unproxied.map(({ id }) => id)])
    const request = { acknowledged: encodeCursor(cursor), unservedEntryIds: [...unserved], policies: policies.report }
    const text = JSON.stringify(request)
    if (text !== last) requests.put(request)
    last = text
  }
}

/** The whole set at once, since this server may know nothing of it, then after each change. */
async function reportEndpoints (requests: Mailbox<SyncRequestInit>, { mesh, log }: FollowDeps, signal: AbortSignal): Promise<void> {
  if (mesh === undefined) return
  for await (const endpoints of mesh.localEndpoints.watch(signal)) {
    if (endpoints.length > mostLocalEndpoints) {
      log.warn({ endpoints: endpoints.length, reported: mostLocalEndpoints }, 'more workloads live here than a node may report')
    }
    requests.put({ endpoints: endpoints.slice(0, mostLocalEndpoints).map(encodeEndpoint), endpointsChanged: true })
  }
}

async function takeOver (step: PushedStep, deps: FollowDeps): Promise<void> {
  const { identities, revocations, onBundle, log } = deps
  // First: nothing that is revoked is served on while the rest is taken over.
  if (step.revocations !== undefined && revocations.take(step.revocations)) identities.dropRevoked(revocations.current.digests)
  const entries = step.snapshot ? new Map(step.entries) : new Map([...identities.entries.values()].map(entry => [entry.id, entry]))
  if (step.snapshot) {
    // What did not change stays the object it was.
    for (const [id, entry] of entries) {
      const known = identities.entries.get(id)
      if (known?.revisionNumber === entry.revisionNumber && known.createdAtSeconds === entry.createdAtSeconds) entries.set(id, known)
    }
  } else {
    for (const id of step.removedEntryIds) entries.delete(id)
    for (const [id, entry] of step.entries) entries.set(id, entry)
  }
  const own = step.bundles.get(deps.trustDomain)
  const { trustDomain } = deps
  const bundle = own === undefined ? identities.bundle : await takeOwnBundle(own, identities.bundle, { onBundle, trustDomain, log })
  const wanted = new Set([...entries.values()].flatMap(entry => entry.federatesWith))
  const federated = federatedOf(step, identities.federatedBundles, wanted)
  identities.setBundles(bundle, federated)
  const changed = step.snapshot || step.entries.size + step.removedEntryIds.size > 0
  if (changed || !identities.synced) identities.setEntries(new EntryIndex(entries.values()))
}

async function takeOwnBundle (
  pushed: Bundle, known: Bundle, { onBundle, trustDomain, log }: Pick<FollowDeps, 'onBundle' | 'trustDomain' | 'log'>
): Promise<Bundle> {
  try {
    const own = ownBundleOf(pushed, trustDomain)
    await onBundle(own)
    return own
  } catch (error) {
    if (codeOf(error) !== 'bundle_malformed') throw error
    log.error({ err: error }, 'the server pushed an own bundle that cannot be used; the last good one stays')
    return known
  }
}

/** Gives `known` itself when nothing changed. */
function federatedOf (
  { snapshot, bundles, removedTrustDomains }: PushedStep, known: ReadonlyMap<TrustDomain, Bundle>, wanted: ReadonlySet<TrustDomain>
): ReadonlyMap<TrustDomain, Bundle> {
  const found = new Map<TrustDomain, Bundle>()
  for (const trustDomain of [...wanted].toSorted()) {
    const before = snapshot || removedTrustDomains.has(trustDomain) ? undefined : known.get(trustDomain)
    const bundle = bundles.get(trustDomain) ?? before
    if (bundle !== undefined) found.set(trustDomain, bundle)
  }
  const unchanged = found.size === known.size && [...found].every(([trustDomain, bundle]) => known.get(trustDomain) === bundle)
  return unchanged ? known : found
}
