import { hostname, networkInterfaces } from 'node:os'
import { join } from 'node:path'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { attestConnection } from '../attestation/socket/attest-connection.ts'
import { connectionNameFormat, parseConnectionName } from '../attestation/socket/connection-name.ts'
import { openSocketDiagnosis } from '../attestation/socket/socket-diagnosis.ts'
import type { WorkloadAttestor } from '../attestation/workload/workload-attestor.ts'
import type { Recorder } from '../authz/decision-log/open-recorder.ts'
import { adsHandlers } from '../mesh/ads/ads-handlers.ts'
import { ConnectionSecrets } from '../mesh/ads/connection-secrets.ts'
import { ProxyState } from '../mesh/ads/proxy-state.ts'
import { reportHandlers } from '../mesh/decisions/report-handlers.ts'
import { superviseEnvoy } from '../mesh/envoy/supervise-envoy.ts'
import { exposeTraffic, readTraffic } from '../mesh/envoy/traffic.ts'
import { meshHandlers } from '../mesh/mesh-handlers.ts'
import { MeshNode } from '../mesh/mesh-node.ts'
import type { MeshSettings, Revoked } from '../mesh/mesh-state.ts'
import { epochsIn } from '../mesh/resources/stored-epochs.ts'
import { AnnouncedWorkloads } from '../mesh/workloads/announced-workloads.ts'
import { NetnsWatcher } from '../mesh/workloads/watch-netns.ts'
import { WorkloadRegistry } from '../mesh/workloads/workload-registry.ts'
import type { CallContext } from '../rpc/call.ts'
import { bind, openRpcServer } from '../rpc/server.ts'
import type { Clock } from '../runtime/clock.ts'
import type { Metrics } from '../runtime/metrics.ts'
import type { Logger } from '../runtime/logger.ts'
import type { Task } from '../runtime/tasks.ts'
import { SpiffeError } from '../spiffe/errors.ts'
import { formatSelector, type Selector } from '../spiffe/selector.ts'
import type { TrustDomain } from '../spiffe/trust-domain.ts'
import { meshService } from '../wire/generated/agent-sync.ts'
import { accessLogService } from '../wire/generated/envoy-access-log-service.ts'
import { aggregatedDiscoveryService } from '../wire/generated/envoy-sds.ts'
import type { MeshConfig } from './mesh-config.ts'
import { directoryOf, reportEndpoints } from './mesh-directory.ts'
import { openAgentPods } from './agent-pods.ts'
import { redirectRules, WorkloadRedirects } from './mesh-redirect.ts'
import { meshPolicies } from './mesh-policies.ts'
import { openNodeAuthorization } from './node-authorization.ts'
import type { NodeIdentities } from './node-identities.ts'
import { HandingOver } from './until-handed-over.ts'
import type { NodePolicies } from './node-policies.ts'
import type { NodeMesh } from './node-services.ts'
import { recordProxyDecision } from './proxy-decisions.ts'

export interface AgentMeshDeps {
  readonly trustDomain: TrustDomain
  /** The agent's own folder. */
  readonly dataDir: string
  readonly identities: NodeIdentities
  readonly nodeMesh: NodeMesh
  readonly revoked: (signal: AbortSignal) => AsyncIterable<Revoked>
  readonly policies: NodePolicies
  readonly metrics: Metrics
  /** Whether anybody can read them. */
  readonly servesMetrics: boolean
  readonly recorder: Recorder
  readonly attest: (context: CallContext) => Promise<readonly Selector[]>
  readonly attestors: readonly WorkloadAttestor[]
  readonly takeOver: boolean
  readonly clock: Clock
  readonly log: Logger
}

export interface AgentMesh extends AsyncDisposable {
  readonly registry: Pick<WorkloadRegistry, 'arrivals'>
  readonly tasks: readonly Task[]
}

/**
 * Makes the agent the control plane of its node's proxy.
 * @throws {SpiffeError} `socket_in_use`, `file_unusable`
 */
export async function openAgentMesh (config: MeshConfig, deps: AgentMeshDeps): Promise<AgentMesh> {
  await using scope = new AsyncDisposableStack()
  const { identities, clock, dataDir, trustDomain } = deps
  const log = deps.log.child({ part: 'mesh' })
  const registry = scope.use(new WorkloadRegistry(identities, log))
  const settings: MeshSettings = {
    ...config.settings, trustDomain, countsTraffic: deps.servesMetrics,
    ...config.hostProcesses ? { connectionName: connectionNameFormat, hostIpv6: loopbackHasIpv6() } : {}
  }
  const connections = config.hostProcesses ? scope.use(openConnections(deps, scope, () => node.refresh(), log)) : undefined
  const node = new MeshNode({
    settings,
    registry,
    own: signal => identities.watch([], signal),
    directory: signal => directoryOf(deps.nodeMesh.services, signal),
    revoked: deps.revoked,
    policies: signal => meshPolicies(policies, clock, signal),
    connections,
    epochs: epochsIn(join(dataDir, 'connection-epochs.json')),
    clock
  })
  const { policies, recorder, takeOver } = deps
  scope.use(await openNodeAuthorization({
    policies, path: settings.authorizationSocketPath, takeOver, clock, log,
    onDecided: facts => recorder.decided(facts)
  }))
  const envoy = config.envoy === undefined ? undefined : superviseEnvoy({
    ...config.envoy, folder: join(dataDir, 'envoy'), xdsSocketPath: config.xdsSocketPath, nodeId: hostname(),
    isHandover: reason => reason instanceof HandingOver
  }, clock, log)
  deps.metrics.include(async () => {
    const { pid, adminSocketPath } = envoy?.status ?? {}
    return pid === undefined || adminSocketPath === undefined ? ''
      : exposeTraffic(await readTraffic(adminSocketPath), 'assay_agent')
  })
  const admit = async (context: CallContext) => {
    const { caller } = context
    // The kernel names the process that connected; this one we started.
    if (caller.kind === 'unix' && caller.peer.pid !== 0 && caller.peer.pid === envoy?.status.pid) return
    await admitProxy(context, config.proxySelectors, deps.attest)
  }
  const proxy = new ProxyState()
  const { proxy: reported } = config.decisions
  const stopping = new AbortController()
  const pins = join(dataDir, 'netns')
  const announced = scope.use(await AnnouncedWorkloads.open({ file: join(dataDir, 'workloads.json'), pins, registry }))
  // What was here already is known once everybody who looks has looked.
  const looking = new Set([...config.netnsFolder === undefined ? [] : ['netns'], ...config.kubernetes === undefined ? [] : ['pods']])
  const looked = (who: string) => {
    looking.delete(who)
    if (looking.size === 0) registry.scanned()
  }
  const rules = config.redirect ? redirectRules(settings) : undefined
  const pods = config.kubernetes === undefined ? undefined : scope.use(await openAgentPods(config.kubernetes, {
    dataDir, pins, attestors: deps.attestors, registry, rules,
    onLooked: () => looked('pods'), metrics: deps.metrics, clock, log
  }))
  const redirects = rules === undefined ? undefined : new WorkloadRedirects({
    registry, rules, isPod: uid => pods?.enrolment.has(uid) === true, clock, log
  })
  const rpc = scope.use(openRpcServer({
    services: [
      bind(aggregatedDiscoveryService, adsHandlers({
        admit, clock,
        states: signal => node.watch(signal),
        onStatus: status => proxy.note(status),
        onStream: () => proxy.open()
      })),
      ...reported === 'none' ? [] : [bind(accessLogService, reportHandlers({
        admit, stopping: stopping.signal,
        onReport: report => recordProxyDecision(report, { policies, log: recorder.log, decisions: reported })
      }))],
      bind(meshService, meshHandlers({
        node, proxy, registry, announced, pods, redirects, envoy, settings, now: () => clock.now()
      }))
    ],
    log,
    clock
  }))
  scope.defer(() => stopping.abort())
  deps.nodeMesh.proxy = {
    async settled (signal) {
      // What was just taken over has a few turns to go until it is a state of the proxy's.
      for (let turn = 0; turn < 3; turn++) await nextTurn()
      for await (const _ of proxy.watch(signal)) if (proxy.hasSettled(node.views)) return
    },
    get refusedIds () { return new Set(proxy.refused(node.views, clock.now()).map(({ name }) => name)) }
  }
  const { path } = await rpc.listenUnix({ path: config.xdsSocketPath, mode: 0o600, takeOver })
  log.info({ socket: path }, 'xds socket is open')
  if (looking.size === 0) registry.scanned()
  const { netnsFolder } = config
  const netns = netnsFolder === undefined ? undefined : scope.use(new NetnsWatcher({
    folder: netnsFolder, pins, clock, log,
    registry: { arrive: one => registry.arrive(one), leave: uid => registry.leave(uid), scanned: () => looked('netns') }
  }))
  const held = scope.move()
  return {
    registry,
    tasks: [
      ...node.tasks(),
      signal => recorder.log.run(signal),
      signal => reportEndpoints(registry, deps.nodeMesh, signal),
      ...pods?.enrolment.tasks() ?? [],
      ...redirects === undefined ? [] : [(signal: AbortSignal) => redirects.run(signal)],
      ...netns === undefined ? [] : [(signal: AbortSignal) => netns.run(signal)],
      ...envoy === undefined ? [] : [(signal: AbortSignal) => envoy.run(signal)]
    ],
    [Symbol.asyncDispose]: () => held.disposeAsync()
  }
}

function loopbackHasIpv6 (): boolean {
  return Object.values(networkInterfaces()).some(addresses => addresses?.some(({ address }) => address === '::1') === true)
}

/** Whose secret a connection of the host's own processes gets: that of the process that has its socket. */
function openConnections (
  { attestors, identities, clock }: AgentMeshDeps, scope: AsyncDisposableStack, onChange: () => void, log: Logger
): ConnectionSecrets {
  const sockets = scope.use(openSocketDiagnosis())
  return new ConnectionSecrets({
    identities, clock, log, onChange,
    async attest (name, signal) {
      const connection = parseConnectionName(name)
      if (connection === undefined) throw new SpiffeError('connection_unknown', 'the name is that of no connection')
      return await attestConnection(connection.source, connection.destination, { sockets, attestors, clock, log }, signal)
    }
  })
}

/** A proxy is trusted by rule, not by position: it gets other workloads' keys. */
async function admitProxy (context: CallContext, required: readonly Selector[], attest: AgentMeshDeps['attest']): Promise<void> {
  if (required.length === 0) throw new SpiffeError('proxy_not_admitted', 'no process but the agent\'s own Envoy may be this node\'s proxy')
  const found = new Set((await attest(context)).map(formatSelector))
  const missing = required.map(formatSelector).filter(selector => !found.has(selector))
  if (missing.length > 0) throw new SpiffeError('proxy_not_admitted', 'the caller is not this node\'s proxy')
}
