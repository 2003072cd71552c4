import { hostname } from 'node:os'
import { join } from 'node:path'
import { openRecorder } from '../authz/decision-log/open-recorder.ts'
import { allOf, attestationMetrics } from '../attestation/workload/attestation-metrics.ts'
import type { Reconfigured } from '../pluginhost/plugin-host.ts'
import { pluginMetrics } from '../pluginhost/plugin-metrics.ts'
import { startPlugins, type StartedPlugins } from '../plugins/catalog.ts'
import type { SvidStore } from '../plugins/svid-store.ts'
import { serveDiagnostics } from '../rpc/serve-diagnostics.ts'
import { openRpcServer, type RpcServer } from '../rpc/server.ts'
import { isNameOf } from '../rpc/spire-metrics.ts'
import { openTelemetry } from '../rpc/telemetry/telemetry.ts'
import type { TlsIdentity } from '../rpc/tls-identity.ts'
import { systemClock, type Clock } from '../runtime/clock.ts'
import type { Logger } from '../runtime/logger.ts'
import { createMetrics } from '../runtime/metrics.ts'
import { runTasks } from '../runtime/tasks.ts'
import { Watchable } from '../runtime/watchable.ts'
import { SpiffeError } from '../spiffe/errors.ts'
import { openAgentBroker } from './agent-broker.ts'
import { foreignKinds } from '../authz/policy/foreign-kinds.ts'
import { agentCatalog, type AgentPlugins } from './agent-catalog.ts'
import type { AgentConfig } from './agent-config.ts'
import { openAgentAdmin } from './agent-admin.ts'
import { AgentLife } from './agent-life.ts'
import { agentMetrics } from './agent-metrics.ts'
import { openAgentMesh } from './agent-mesh.ts'
import { agentServices, attestCallers, attestProcesses } from './agent-services.ts'
import { CacheFile } from './cache/cache-file.ts'
import type { NodeCache } from './cache/node-cache.ts'
import { usableCache } from './cache/usable-cache.ts'
import { fetchWorkloadSvid } from './ask-workload-api.ts'
import { attestByPid, findByNamespace, findByPod } from './follow-workload.ts'
import { askForHandover, handoverPath, openHandover } from './handover.ts'
import { identitySource } from './identity-source.ts'
import { readJoinToken } from './join.ts'
import { NodePolicies } from './node-policies.ts'
import type { NodeMesh } from './node-services.ts'
import { JwtCache } from './jwt-cache.ts'
import { NodeIdentities } from './node-identities.ts'
import { openNodeMesh } from './node-services.ts'
import { readRegoKeys } from './rego-keys.ts'
import { Revocations } from './revocations.ts'
import { ServerClient } from './server-client.ts'
import { SvidCache } from './svid-cache.ts'
import { agentNames, spireAgentMetrics } from './spire-agent-metrics.ts'
import { storeSvids } from './svid-store/store-svids.ts'
import { untilHandedOver } from './until-handed-over.ts'
import { verifyServerWith } from '../rpc/verify-server.ts'

export interface RunAgentOptions {
  readonly log: Logger
  readonly clock?: Clock
  readonly random?: () => number
  /** Of a node that calls services, or is called. */
  readonly mesh?: NodeMesh | undefined
  /** Of somebody who wants to watch them. */
  readonly policies?: NodePolicies | undefined
  /** Beside those of the configuration. */
  readonly svidStores?: readonly SvidStore[] | undefined
  readonly onReconfigure?: Reconfigured | undefined
  /** Called once the socket accepts connections and the agent has its identity. */
  readonly onReady?: (ready: { readonly socketPath: string }) => void
}

/**
 * Runs a node's agent until the signal aborts: opens its socket, serves what an earlier run kept while that is good, joins if it has no
 * identity yet, keeps entries, bundles and SVIDs in step with the server, and serves the Workload API and SDS.
 * @throws {SpiffeError} `agent_banned`, `agent_not_attested`, … when the server ends it (all it has stored is then removed);
 * `agent_expired`, `config_invalid`, `bootstrap_untrusted`, `join_token_invalid`, `socket_in_use`, `address_unusable`
 */
export async function runAgent (config: AgentConfig, signal: AbortSignal, options: RunAgentOptions): Promise<void> {
  const { log, clock = systemClock, random = Math.random, onReady } = options
  await using scope = new AsyncDisposableStack()
  const { dataDir, trustDomain } = config
  const metrics = createMetrics({ prefix: 'assay_agent' })
  const telemetry = scope.use(openTelemetry(config.telemetry, {
    prefix: 'spire_agent', trustDomain, beside: config.prometheus === undefined ? undefined : metrics, clock, log,
    onAsked: options.onReconfigure
  }))
  const spire = telemetry.isTold ? spireAgentMetrics(telemetry, { trustDomain, clock }) : undefined
  const host = {
    clock, log, dataDir, trustDomain, readJoinToken: () => readJoinToken(config), fetchWorkloadSvid,
    onReconfigure: options.onReconfigure,
    hostServices: [pluginMetrics(telemetry, { isOurs: isNameOf(agentNames), clock, log })]
  }
  const plugins = scope.use(await startPlugins(agentCatalog, config.plugins, host, signal))
  // Before anything is read: the agent that runs has written its last.
  const handover = handoverPath(config.socketPath)
  const predecessor = config.takeOver ? await askForHandover(handover, signal) : undefined
  if (predecessor !== undefined) scope.use(predecessor)
  const store = plugins.only('KeyManager')
  const stored = await store.read()

  const svids = new SvidCache({
    keyType: config.workloadKeyType, maxSize: config.x509SvidCacheMaxSize, random, availabilityMs: config.availabilityTargetMs
  }, clock, log)
  const stores = [...plugins.all('SVIDStore'), ...options.svidStores ?? []]
  const ownBundle = stored?.bundle ?? { trustDomain, x509Authorities: [], jwtAuthorities: [] }
  const identities = new NodeIdentities(ownBundle, svids, clock, new Set(stores.map(({ name }) => name)))
  const revocations = new Revocations()
  const regoKeys = await readRegoKeys(config.regoKeys)
  const policies = scope.use(options.policies ?? new NodePolicies({ trustDomain, foreign: foreignKinds }, log, { keys: regoKeys, clock }))
  const jwts = new JwtCache(config.jwtSvidCacheMaxSize, clock, config.jwtCacheHitTimeoutMs, random)
  const client = scope.use(new ServerClient({
    addresses: config.serverAddresses,
    syncForm: config.syncForm,
    random,
    agentId: () => {
      if (life.svid === undefined) throw new SpiffeError('server_initializing', 'the agent has not joined yet')
      return life.svid.id
    },
    identity: () => life.svid?.identity,
    verifyServer: verifyServerWith(() => identities.bundle, clock),
    requirePqKem: config.requirePqKem,
    log
  }))
  metrics.gauge({ name: 'policy_version', help: 'Version of the policies that are served; 0: none' }).collect(() => policies.report.version)
  const counters = agentMetrics(metrics, { identities, svids })
  const cacheFile = cacheFileOf(config, plugins)
  const ownIdentity = new Watchable<TlsIdentity | undefined>(undefined)
  let lastSync: Date | undefined
  const nodeMesh = options.mesh ?? (config.mesh === undefined ? undefined : openNodeMesh())
  const life: AgentLife = new AgentLife({
    config,
    store,
    attestor: plugins.only('NodeAttestor'),
    identities,
    revocations,
    policies,
    svids,
    jwts,
    client,
    cacheFile,
    mesh: nodeMesh,
    onRenewed: () => ownIdentity.set(life.svid?.identity),
    onSynced: () => {
      lastSync = clock.now()
      counters.synced()
    },
    events: spire?.events,
    clock,
    log,
    random
  }, stored)
  spire?.running({ identities, svids, jwts, joined: () => life.svid !== undefined })
  const cache = await keptCache(config, life, cacheFile, clock, log)
  if (cache !== undefined) await life.restore(cache)

  const ready = async () => {
    if (!identities.synced) throw life.trouble ?? new SpiffeError('server_initializing', 'the agent has not synchronised yet')
  }
  const attestation = allOf([attestationMetrics(metrics), ...spire === undefined ? [] : [spire.attestation]])
  const attestProcess = attestProcesses({ attestors: plugins.all('WorkloadAttestor'), clock, metrics: attestation })
  const attest = attestCallers(attestProcess)
  const services = agentServices(config, {
    identities,
    revocations,
    source: identitySource(identities, jwts, client),
    attest,
    ready,
    clock,
    metrics: { sds: counters.sds },
    onLimited: spire?.onLimited
  })
  const calls = spire?.calls ?? {}
  const rpc = scope.use(openRpcServer({ services, log, clock, ...calls }))
  const takeOver = predecessor !== undefined
  predecessor?.check()
  const { path } = await rpc.listenUnix({ path: config.socketPath, mode: 0o777, takeOver })
  log.info({ socket: path, takeOver }, 'agent socket is open')
  const delegable = identitySource(identities, jwts, client, 'delegable')
  const attestPid = attestByPid(attestProcess, clock)
  const recorder = config.mesh === undefined ? undefined : openRecorder(config.mesh.decisions.recording, {
    clock, log, metrics, labels: { node: hostname() }
  })
  const admin = config.adminSocketPath === undefined ? undefined : scope.use(await openAgentAdmin(config.adminSocketPath, config, {
    identities, delegable, attest, attestPid, clock, log, calls, decisions: recorder?.log,
    debug: {
      chain: () => life.svid?.identity.chain, bundle: () => identities.bundle, svids, jwts,
      storable: () => identities.entries.storable.length, lastSync: () => lastSync, clock
    }
  }, takeOver))
  const isProxied = config.mesh !== undefined && nodeMesh !== undefined && recorder !== undefined
  const mesh = !isProxied ? undefined : scope.use(await openAgentMesh(config.mesh, {
    trustDomain, dataDir, identities, nodeMesh, attest, attestors: plugins.all('WorkloadAttestor'), takeOver, clock, log,
    revoked: signal => revocations.watch(signal), policies, recorder, metrics, servesMetrics: config.prometheus !== undefined
  }))
  const broker = config.broker === undefined ? undefined : scope.use(openAgentBroker(config.broker, {
    identities, delegable, attestPid, findNamespace: findByNamespace(mesh?.registry, clock),
    findPod: findByPod(plugins.all('WorkloadAttestor').find(({ pods }) => pods !== undefined)?.pods, clock),
    access: plugins.all('WorkloadAttestor').find(({ access }) => access !== undefined)?.access,
    identity: ownIdentity, requirePqKem: config.requirePqKem, takeOver, clock, log
  }))
  // Without a cache a successor would have nothing to go on with.
  const successors = cacheFile === undefined ? undefined : scope.use(await openHandover(handover, takeOver, log))
  predecessor?.taken()

  const serve = (signal: AbortSignal) => runTasks(signal, [
    signal => life.run(() => {
      ownIdentity.set(life.svid?.identity)
      log.info({ socket: path }, 'agent is serving')
      onReady?.({ socketPath: path })
    }, signal),
    signal => storeSvids({ stores, identities, clock, log }, signal),
    signal => serveDiagnostics(config, {
      metrics, probes: { agent: ready }, failureKeys: { agent: 'make_new_x509_err' }, log,
      own: {
        identity: () => life.svid?.identity, requirePqKem: config.requirePqKem, clock,
        bundleOf: domain => domain === trustDomain ? identities.bundle : identities.federatedBundles.get(domain)
      }
    }, signal),
    ...broker === undefined ? [] : [broker.run],
    ...mesh?.tasks ?? []
  ])
  const successor = await untilHandedOver(serve, successors, log, signal)
  if (successor !== undefined) await leave({ servers: [rpc, admin, broker?.rpc].filter(server => server !== undefined), identities, clock })
  log.info('agent is stopping')
}

/** For connections that were made before the path changed hands. */
const acceptMs = 100
/** At most, for calls to end; what is left is then cut off as at any other end. */
const partingMs = 5000

/** The successor answers new connections already: those that are here are sent there, and no call is cut off. */
async function leave (
  { servers, identities, clock }: { readonly servers: readonly RpcServer[], readonly identities: NodeIdentities, readonly clock: Clock }
): Promise<void> {
  await clock.sleep(acceptMs)
  const drained = Promise.all(servers.map(server => server.drain()))
  identities.release()
  const enough = new AbortController()
  await Promise.race([drained, clock.sleep(partingMs, enough.signal).catch(() => undefined)])
  enough.abort()
}

function cacheFileOf (
  { offlineMaxAgeSeconds, trustDomain }: AgentConfig, plugins: StartedPlugins<AgentPlugins>
): CacheFile | undefined {
  const { folder } = plugins.only('KeyManager')
  if (folder === undefined || offlineMaxAgeSeconds === 0) return undefined
  return new CacheFile(join(folder, 'agent-cache'), plugins.only('Sealing'), trustDomain)
}

/** What an earlier run kept, if it may be served. It is worth no more than the agent's own SVID, and goes with it. */
async function keptCache (
  config: AgentConfig, { svid }: AgentLife, file: CacheFile | undefined, clock: Clock, log: Logger
): Promise<NodeCache | undefined> {
  if (file === undefined) return undefined
  if (svid === undefined) {
    await file.remove()
    return undefined
  }
  const maxAgeMs = config.offlineMaxAgeSeconds * 1000
  const cache = await usableCache(file, { agentId: svid.id, generation: svid.cacheGeneration, maxAgeMs, clock }, log)
  // Of the time before the switch was set.
  if (!config.keepWorkloadKeys && (cache === undefined || cache.svids.length > 0)) await file.remove()
  return cache
}
