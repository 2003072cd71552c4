import { randomUUID } from 'node:crypto'
import { createJoinTokenVerifier } from '../attestation/node/join-token/join-token-verifier.ts'
import type { NodeVerifier } from '../attestation/node/node-verifier.ts'
import { foreignKinds } from '../authz/policy/foreign-kinds.ts'
import { isIn } from '../authz/policy/match.ts'
import { WebRoots } from '../federation/client/web-roots.ts'
import { runProvider } from '../oidc/provider.ts'
import { agentStore, identityProvider } from '../pluginhost/host-services.ts'
import type { Reconfigured } from '../pluginhost/plugin-host.ts'
import { pluginMetrics } from '../pluginhost/plugin-metrics.ts'
import { startPlugins } from '../plugins/catalog.ts'
import { healthService } from '../rpc/health.ts'
import { bind, openRpcServer, type BoundService } from '../rpc/server.ts'
import { reflectionServices } from '../rpc/reflection/reflection-service.ts'
import { serveDiagnostics } from '../rpc/serve-diagnostics.ts'
import { isNameOf } from '../rpc/spire-metrics.ts'
import { openTelemetry } from '../rpc/telemetry/telemetry.ts'
import { systemClock, type Clock } from '../runtime/clock.ts'
import type { Logger } from '../runtime/logger.ts'
import { createMetrics, metricsOfPart, type Metrics } from '../runtime/metrics.ts'
import { runTasks } from '../runtime/tasks.ts'
import type { TrustDomain } from '../spiffe/trust-domain.ts'
import type { Bundle } from '../spiffe/bundle.ts'
import { SpiffeError } from '../spiffe/errors.ts'
import { trustDomainOf } from '../spiffe/spiffe-id.ts'
import type { Datastore } from '../storage/datastore.ts'
import { observeDatastore } from '../storage/observe-datastore.ts'
import { openDatastore } from '../storage/open-datastore.ts'
import { agentSyncService } from '../wire/generated/agent-sync.ts'
import { clusterService, serviceRegistryService } from '../wire/generated/cluster.ts'
import { federationService } from '../wire/generated/federation.ts'
import { policyService } from '../wire/generated/policy.ts'
import { revocationService } from '../wire/generated/revocation.ts'
import { agentService } from '../wire/generated/server-agent.ts'
import { bundleService } from '../wire/generated/server-bundle.ts'
import { entryService } from '../wire/generated/server-entry.ts'
import { localAuthorityService } from '../wire/generated/server-local-authority.ts'
import { svidService } from '../wire/generated/server-svid.ts'
import { trustDomainService } from '../wire/generated/server-trust-domain.ts'
import type { VerifiedX509Svid } from '../x509/verify-svid.ts'
import { agentHandlers } from './api/agent-handlers.ts'
import { agentSyncHandlers } from './api/agent-sync-handlers.ts'
import { bundleHandlers } from './api/bundle-handlers.ts'
import { clusterHandlers } from './api/cluster-handlers.ts'
import { entryHandlers } from './api/entry-handlers.ts'
import { federationHandlers } from './api/federation-handlers.ts'
import { createLimits } from './api/limits.ts'
import { localAuthorityHandlers } from './api/local-authority-handlers.ts'
import { policyHandlers } from './api/policy-handlers.ts'
import { serviceHandlers } from './api/service-handlers.ts'
import { revocationHandlers } from './api/revocation-handlers.ts'
import { svidHandlers } from './api/svid-handlers.ts'
import { trustDomainHandlers } from './api/trust-domain-handlers.ts'
import { AgentVersions } from './agent-versions.ts'
import { auditLog } from './audit-log.ts'
import { Authorities } from './authorities.ts'
import { Authorizer } from './authorize.ts'
import { addPublicationMetrics } from './bundle-publisher/publication-metrics.ts'
import { publishBundle } from './bundle-publisher/publish-bundle.ts'
import { runChores } from './chores.ts'
import { EndpointReports } from './endpoint-reports.ts'
import { FederationPartners } from './federation/federation-partners.ts'
import { PartnerBundles } from './federation/partner-bundles.ts'
import { addPartnerMetrics } from './federation/partner-metrics.ts'
import { PartnerReports } from './federation/partner-reports.ts'
import { serveOwnBundle } from './federation/serve-own-bundle.ts'
import { signBundle } from './federation/sign-bundle.ts'
import { GoneReporters } from './gone-reporters.ts'
import { serverProbes, serverSubsystems } from './health-probes.ts'
import { IssuanceRecorder } from './issuance-recorder.ts'
import { AgentFeeds } from './push/agent-feeds.ts'
import { Convergence } from './push/convergence.ts'
import { Polls } from './push/polls.ts'
import { ProgressReporter } from './push/progress-reporter.ts'
import { runNotifiers } from './notifier/run-notifiers.ts'
import { ownKeySource } from './own-key-source.ts'
import { Registrations } from './registrations.ts'
import { LeaseKeeper, leaseName } from './replication/lease-keeper.ts'
import { Replica } from './replication/replica.ts'
import { reportReplica } from './replication/report-replica.ts'
import { readServerId } from './replication/server-id.ts'
import { StandAside } from './replication/stand-aside.ts'
import { KnownPrivileges } from './privileges.ts'
import { loadApiPolicy } from './load-api-policy.ts'
import { serverCatalog } from './server-catalog.ts'
import type { ServerConfig } from './server-config.ts'
import { ServerIdentity } from './server-identity.ts'
import { SigningQueue } from './signing-queue.ts'
import { serverNames } from './spire-server-names.ts'
import { type SpireServerMetrics, spireServerMetrics } from './spire-server-metrics.ts'
import { logLevelHandlers } from '../rpc/log-level-handlers.ts'
import { debugHandlers } from './api/debug-handlers.ts'
import { debugService } from '../wire/generated/server-debug.ts'
import { loggerService } from '../wire/generated/server-logger.ts'

export interface RunServerOptions {
  readonly log: Logger
  readonly clock?: Clock
  /** Called once both listeners accept connections. */
  readonly onReady?: (ready: ServerReady) => void
  readonly onReconfigure?: Reconfigured | undefined
  /** Called once the bundle endpoint, if one is configured, answers. */
  readonly onBundleEndpoint?: (address: { readonly host: string, readonly port: number }) => void
}

export interface ServerReady {
  /** The TCP listener; the port is the one really bound, also when 0 was asked for. */
  readonly host: string
  readonly port: number
  readonly socketPath: string
}

/**
 * Runs a server until the signal aborts: opens storage and keys, makes authorities where there are none, and serves the API on the
 * admin socket and over TLS.
 * @throws {SpiffeError} `config_invalid`, `policy_*`, `datastore_*`, `key_store_corrupt`, `file_unusable`, `address_unusable`
 */
export async function runServer (
  config: ServerConfig, signal: AbortSignal, { log, clock = systemClock, onReady, onBundleEndpoint, onReconfigure }: RunServerOptions
): Promise<void> {
  await using scope = new AsyncDisposableStack()
  const policy = await loadApiPolicy(config, clock, scope)
  for (const warning of policy.warnings) log.warn(warning)
  const { datastoreDirectUrl: directUrl, datastorePool: poolLimits, migrateDatastore: migrate } = config
  const { trustDomain } = config
  const metrics = createMetrics({ prefix: 'assay_server' })
  const telemetry = scope.use(openTelemetry(config.telemetry, {
    prefix: 'spire_server', trustDomain, beside: config.prometheus === undefined ? undefined : metrics, onAsked: onReconfigure, clock, log
  }))
  const spire = telemetry.isTold ? spireServerMetrics(telemetry, { trustDomain, clock }) : undefined
  const opened = scope.use(await openDatastore(config.datastoreUrl, { clock, log, directUrl, poolLimits, migrate }))
  const store = spire === undefined ? opened : observeDatastore(opened, spire.store, clock)
  for (const warning of await store.warnings()) log.warn(warning)
  const checkJoinToken = (token: string) => store.joinTokens.check(token, clock.now())
  // There is none before the authorities that need the key manager.
  let ownBundle: { readonly value: Bundle } | undefined
  let ownIdentity: ServerIdentity | undefined
  const host = {
    log, clock, trustDomain: config.trustDomain, dataDir: config.dataDir, sharedKeys: store.keys, checkJoinToken,
    ownBundle: () => ownBundle?.value,
    onReconfigure,
    hostServices: [
      agentStore(async id => await store.agents.get(id) !== undefined),
      identityProvider(() => ownBundle && ownIdentity && { ...ownIdentity.current, bundle: ownBundle.value }),
      pluginMetrics(telemetry, { isOurs: isNameOf(serverNames), clock, log })
    ]
  }
  const plugins = scope.use(await startPlugins(serverCatalog, config.plugins, host, signal))
  // A SQLite file has one server: the lease of one that was killed is its successor's at once.
  const replicaId = store.kind === 'sqlite' ? 'sqlite' : randomUUID()
  const aside = new StandAside({ clock, log })
  const lease = new LeaseKeeper({ leases: store.leases, holder: replicaId, aside, clock, log })
  // Join tokens are made by the API itself, so they are always taken.
  const nodeAttestors = [createJoinTokenVerifier(checkJoinToken), ...plugins.all('NodeAttestor')]
  const verifiers = new Map(nodeAttestors.map(verifier => [verifier.name, verifier]))
  const serverId = store.kind === 'sqlite' ? '' : await readServerId(config.dataDir)
  const [upstream] = plugins.all('UpstreamAuthority')
  const authorities = await Authorities.open(config, {
    store, keys: plugins.only('KeyManager'), upstream, composers: plugins.all('CredentialComposer'), lease, serverId,
    events: spire?.ca, clock, log
  })
  const { ca } = authorities
  ownBundle = ca.bundle
  const replica = await Replica.open({
    store, trustDomain, ownBundle: ca.bundle, onAuthorities: () => authorities.reload(), maxStaleMs: config.maxStaleMs, clock, log
  })
  await authorities.bootstrap(() => replica.catchUp(), signal)
  spire?.running({ ca, replica })
  const identity = await ServerIdentity.open({
    authority: ca, trustDomain, ttlSeconds: config.defaultX509SvidTtlSeconds, onIssued: spire?.onIssued, clock, log
  })
  ownIdentity = identity
  authorities.onReloaded(() => identity.followRoot())
  const { roles, socketRequiresRole, trustedProxies } = config
  const adminIds = new Set(config.adminIds)
  const privileges = new KnownPrivileges({ adminIds, roles, registry: replica.registry })
  const authorizer = new Authorizer({
    adminIds, roles, privileges, socketRequiresRole, policy: policy.evaluator, replica, aside, clock
  })
  const feeds = new AgentFeeds({ replica, aside, ownBundle: ca.bundle, trustDomain })
  const progress = new ProgressReporter(replicaId, { store: store.progress, clock, log })
  const reports = new EndpointReports({ replica, endpoints: store.endpoints, clock, log })
  const signing = new SigningQueue({ clock, metrics, random: Math.random })
  const recorder = new IssuanceRecorder({ store: store.issuedSvids, replicaId, clock, log, metrics })
  const { oidc, federation: { bundleEndpoint, leastRefreshMs, webCaPath } } = config
  const partners = new FederationPartners(config.federation.partners, () => replica.federation)
  const webRoots = new WebRoots({ extraCaPath: webCaPath })
  const partnerBundles = new PartnerBundles({
    trustDomain, partners, replica, ownBundle: ca.bundle, store, lease, copies: config.federation.copies, webRoots,
    times: { leastMs: leastRefreshMs }, events: spire?.partners, clock, random: Math.random, log
  })
  const partnerReports = new PartnerReports({
    replicaId, states: () => partnerBundles.states, partners: () => partners.all.keys(), lease, clock, log
  })
  const services = bindServices(config, {
    store, authorities, identity, replica, replicaId, aside, lease, feeds, progress, reports, authorizer, signing, recorder, clock, log,
    partners, partnerBundles, webRoots, verifiers, onLimited: spire?.onLimited
  })
  const books = [
    ...config.auditLog ? [auditLog(log, authorizer)] : [],
    ...spire === undefined ? [] : [spire.onEnded]
  ]
  const rpc = scope.use(openRpcServer({
    services: [...services, ...reflectionServices(services)], log, clock, before: context => authorizer.authorize(context),
    onEnded: call => { for (const tell of books) tell(call) }
  }))
  const bundleOf = (domain: TrustDomain): Bundle | undefined => domain === trustDomain ? ca.bundle.value : replica.bundleOf(domain)
  const { path } = await rpc.listenUnix({ path: config.socketPath, mode: 0o770 })
  const { host: address, port } = await rpc.listenTls({
    host: config.bindAddress,
    port: config.bindPort,
    identity: () => identity.current,
    bundleOf,
    acceptClient: svid => refuseStrangers(svid, config),
    isTrustedProxy: trustedProxies.length === 0 ? undefined : address => trustedProxies.some(network => isIn(network, address)),
    requirePqKem: config.requirePqKem,
    offers: ({ service: { name } }) => !onlyLocal.test(name)
  })
  log.info({ trustDomain, address: `${address}:${port}`, socket: path, datastore: store.kind }, 'server is running')
  onReady?.({ host: address, port, socketPath: path })

  serverMetrics(metrics, { replica, feeds })
  addPartnerMetrics(metrics, {
    partners: () => partners.all.keys(), bundleOf: domain => replica.bundleOf(domain), states: () => partnerBundles.states, clock
  })
  const probes = serverProbes({ trustDomain, socketPath: path, authorities, store, clock })
  const publishing = {
    ownBundle: ca.bundle, isHolder: () => lease.stores !== undefined, onPublished: addPublicationMetrics(metrics, clock),
    sign: async (ttlSeconds: number) => (await signBundle({ ttlSeconds: BigInt(ttlSeconds) }, { authority: ca, clock })).signedBundle,
    clock, log
  }
  await runTasks(signal, [
    signal => replica.run(signal),
    signal => lease.run(signal),
    signal => aside.run(signal),
    signal => runChores({
      caTtlSeconds: config.caTtlSeconds, pruneAgents: config.pruneAgents, changesKeptMs: config.changesKeptMs, authorities, lease,
      goneReporters: new GoneReporters({ replica, clock, log }), clock, log
    }, signal),
    signal => authorities.followUpstream(signal),
    signal => publishBundle({ ...publishing, places: plugins.all('BundlePublisher').flatMap(({ places }) => places) }, signal),
    signal => runNotifiers({ ...publishing, notifiers: plugins.all('Notifier') }, signal),
    signal => partnerBundles.run(signal),
    signal => partnerReports.run(signal),
    ...oidc === undefined ? [] : [(signal: AbortSignal) => runProvider(oidc, {
      source: ownKeySource({ ownBundle: ca.bundle, replica, everyMs: oidc.pollMs, clock }),
      clock, log, metrics: metricsOfPart(metrics, 'oidc'), expiredAtStart: 'shown'
    }, signal)],
    ...bundleEndpoint === undefined ? [] : [(signal: AbortSignal) => serveOwnBundle(bundleEndpoint, {
      ownBundle: ca.bundle, identity: () => identity.current, requirePqKem: config.requirePqKem, dataDir: config.dataDir, webCaPath,
      onListening: onBundleEndpoint, clock, log
    }, signal)],
    signal => progress.run(signal),
    signal => reports.run(signal),
    signal => recorder.run(signal),
    signal => feeds.run(progress, clock, signal),
    signal => reportReplica({
      id: replicaId,
      address: `${address}:${port}`,
      replica,
      agents: () => feeds.size,
      aside,
      replicas: store.replicas,
      progress: store.progress,
      clock,
      log
    }, signal),
    signal => identity.run(() => rpc.refreshIdentity(), signal),
    signal => serveDiagnostics(config, {
      metrics, probes, failureKeys: serverSubsystems, log,
      own: { identity: () => identity.current, bundleOf, requirePqKem: config.requirePqKem, clock }
    }, signal)
  ])
  log.info('server is stopping')
}

interface ServiceDeps {
  readonly store: Datastore
  readonly identity: ServerIdentity
  readonly log: Logger
  readonly authorities: Authorities
  readonly replica: Replica
  readonly replicaId: string
  readonly aside: StandAside
  readonly lease: LeaseKeeper
  readonly feeds: AgentFeeds
  readonly progress: ProgressReporter
  readonly reports: EndpointReports
  readonly authorizer: Authorizer
  readonly signing: SigningQueue
  readonly recorder: IssuanceRecorder
  readonly partners: FederationPartners
  readonly partnerBundles: PartnerBundles
  readonly webRoots: WebRoots
  readonly verifiers: ReadonlyMap<string, NodeVerifier>
  readonly onLimited: SpireServerMetrics['onLimited'] | undefined
  readonly clock: Clock
}

/** What there is on the local socket alone (spire-surface §1.1). */
const onlyLocal = /^(?:spire\.api\.server\.(?:debug|logger)|grpc)\./

function bindServices (config: ServerConfig, deps: ServiceDeps): BoundService[] {
  const { store, authorities, replica, replicaId, aside, lease, feeds, progress, reports, authorizer, signing, recorder, clock } = deps
  const { partners, partnerBundles, webRoots, verifiers, identity, log } = deps
  const limits = createLimits(config.ratelimit, clock, deps.onLimited)
  const registrations = new Registrations(store, replica)
  const convergence = new Convergence({ replicaId, replica, feeds, progress: store.progress, replicas: store.replicas, clock })
  const { ca } = authorities
  const { registry, revocations } = replica
  const { trustDomain } = config
  const catchUp = () => replica.catchUp()
  return [
    bind(agentService, agentHandlers({
      trustDomain, agentTtlSeconds: config.agentTtlSeconds, agentIdAsSelector: config.agentIdAsSelector, authority: ca,
      agents: store.agents, joinTokens: store.joinTokens,
      verifiers, registrations, directory: replica.agents, authorizer, catchUp, limits, signing, recorder, clock
    })),
    bind(bundleService, bundleHandlers({
      trustDomain, ownBundle: ca.bundle, authorities, bundles: store.bundles, registrations, authorizer, limits, clock
    })),
    bind(trustDomainService, trustDomainHandlers({
      trustDomain, federation: store.federation, partners, replica, registrations, refresher: partnerBundles,
      authorizer
    })),
    bind(federationService, federationHandlers({
      trustDomain, replicaId, store, partners, replica, authorizer, authority: ca, webRoots, clock,
      bundleEndpoint: config.federation.bundleEndpoint
    })),
    bind(entryService, entryHandlers({
      trustDomain, entries: store.entries, registrations, registry, catchUp, authorizer, polls: new Polls(progress, () => replica.cursor)
    })),
    bind(svidService, svidHandlers({
      trustDomain, caTtlSeconds: config.caTtlSeconds, authority: ca, registry, revocations, recorder, catchUp, authorizer, limits,
      signing, clock,
      defaultX509SvidTtlSeconds: config.defaultX509SvidTtlSeconds, defaultJwtSvidTtlSeconds: config.defaultJwtSvidTtlSeconds
    })),
    bind(localAuthorityService, localAuthorityHandlers({ authorities })),
    bind(agentSyncService, agentSyncHandlers({
      replica, feeds, progress, reports, versions: new AgentVersions(registrations, clock), authorizer
    })),
    bind(serviceRegistryService, serviceHandlers({ trustDomain, services: store.services, registrations, replica, authorizer })),
    bind(policyService, policyHandlers({ trustDomain, policies: store.policies, registrations, foreign: foreignKinds, clock })),
    bind(revocationService, revocationHandlers({
      store, registry, revocations, catchUp, authorizer, clock,
      defaultX509SvidTtlSeconds: config.defaultX509SvidTtlSeconds, defaultJwtSvidTtlSeconds: config.defaultJwtSvidTtlSeconds,
      agentTtlSeconds: config.agentTtlSeconds, trustDomain
    })),
    bind(clusterService, clusterHandlers({
      trustDomain, replicaId, store, replica, authorities, convergence, progress, feeds, aside, lease, leaseName, clock
    })),
    bind(debugService, debugHandlers({
      chain: () => identity.current.chain, bundle: () => ca.bundle.value, agents: replica.agents, registry,
      countBundles: () => store.bundles.count(undefined), clock
    })),
    bind(loggerService, logLevelHandlers(log)),
    healthService(() => store.ping())
  ]
}

function serverMetrics (metrics: Metrics, { replica, feeds }: { readonly replica: Replica, readonly feeds: AgentFeeds }): void {
  metrics.gauge({ name: 'registration_entries', help: 'Registration entries' }).collect(() => replica.registry.size)
  metrics.gauge({ name: 'attested_agents', help: 'Attested agents' }).collect(() => replica.agents.size)
  metrics.gauge({ name: 'services', help: 'Services' }).collect(() => replica.services.services.size)
  metrics.gauge({ name: 'service_endpoints', help: 'Endpoints behind services that agents are told of' })
    .collect(() => replica.services.endpoints.size)
  metrics.gauge({ name: 'policy_version', help: 'Version of the active policies; 0: none' })
    .collect(() => replica.policies.state.active?.number ?? 0)
  metrics.gauge({ name: 'revocations', help: 'Revocations that stand' }).collect(() => replica.revocations.all.size)
  metrics.gauge({ name: 'agent_streams', help: 'Agents that follow this replica over a push stream' }).collect(() => feeds.size)
  metrics.gauge({ name: 'log_number', help: 'Number in the log of changes that this replica has taken over' })
    .collect(() => replica.cursor.number)
  metrics.gauge({ name: 'staleness_seconds', help: 'How old this replica\'s view of the database is, at the most' })
    .collect(() => replica.staleMs / 1000)
}

/** A client is of the own trust domain, or administers from another one as the configuration says (spire-surface §1.1). */
function refuseStrangers (svid: VerifiedX509Svid, { trustDomain, adminIds, roles }: ServerConfig): void {
  if (trustDomainOf(svid.id) === trustDomain || adminIds.includes(svid.id) || roles.ofId(svid.id).length > 0) return
  throw new SpiffeError('peer_unauthenticated', `${svid.id} is neither of trust domain ${trustDomain} nor an admin`)
}
