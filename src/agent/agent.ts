import { attestWorkload } from '../attestation/workload/attest-workload.ts'
import { attestationMetrics } from '../attestation/workload/attestation-metrics.ts'
import { startPlugins } from '../plugins/catalog.ts'
import type { CallContext } from '../rpc/call.ts'
import { healthService } from '../rpc/health.ts'
import { reflectionServices } from '../rpc/reflection/reflection-service.ts'
import { serveDiagnostics } from '../rpc/serve-diagnostics.ts'
import { bind, openRpcServer, type BoundService } from '../rpc/server.ts'
import { systemClock, type Clock } from '../runtime/clock.ts'
import type { Logger } from '../runtime/logger.ts'
import { createMetrics } from '../runtime/metrics.ts'
import { runTasks } from '../runtime/tasks.ts'
import { sdsHandlers } from '../sds/sds-handlers.ts'
import { SpiffeError } from '../spiffe/errors.ts'
import type { Selector } from '../spiffe/selector.ts'
import { secretDiscoveryService } from '../wire/generated/envoy-sds.ts'
import { workloadService } from '../wire/generated/workload.ts'
import { requireSecurityHeader } from '../workloadapi/security-header.ts'
import { workloadHandlers } from '../workloadapi/workload-handlers.ts'
import { agentCatalog } from './agent-catalog.ts'
import type { AgentConfig } from './agent-config.ts'
import type { AgentState, AgentStateStore } from './agent-state.ts'
import { AgentSvid } from './agent-svid.ts'
import { agentMetrics } from './agent-metrics.ts'
import { asEnding, endsAgent } from './ends-agent.ts'
import { followServer } from './follow-server.ts'
import { identitySource } from './identity-source.ts'
import { joinTrustDomain, readJoinToken } from './join.ts'
import { JwtCache } from './jwt-cache.ts'
import { NodeIdentities } from './node-identities.ts'
import { ServerClient } from './server-client.ts'
import { SvidCache } from './svid-cache.ts'
import { verifyServerWith } from './verify-server.ts'
import { version } from '../runtime/version.ts'

export interface RunAgentOptions {
  readonly log: Logger
  readonly clock?: Clock
  readonly random?: () => number
  /** Called once the socket accepts connections. */
  readonly onReady?: (ready: { readonly socketPath: string }) => void
}

/**
 * Runs a node's agent until the signal aborts: joins if it has no identity yet, keeps entries, bundles and SVIDs in step with
 * the server, and serves the Workload API and SDS.
 * @throws {SpiffeError} `agent_banned`, `agent_not_attested`, … when the server ends it (its stored SVID is then removed);
 * `config_invalid`, `bootstrap_untrusted`, `join_token_invalid`, `socket_in_use`, `address_unusable`
 */
export async function runAgent (config: AgentConfig, signal: AbortSignal, options: RunAgentOptions): Promise<void> {
  const { log, clock = systemClock, random = Math.random, onReady } = options
  await using scope = new AsyncDisposableStack()
  const { dataDir, trustDomain } = config
  const host = { clock, log, dataDir, trustDomain, readJoinToken: () => readJoinToken(config) }
  const plugins = scope.use(await startPlugins(agentCatalog, config.plugins, host, signal))
  const kept = plugins.only('KeyManager')
  const state = await storedState(kept, clock, log) ??
    await joinTrustDomain(config, { attestor: plugins.only('NodeAttestor'), clock, log }, signal)
  await kept.write(state)
  const svid = new AgentSvid(state, { store: kept, clock, log, random })
  log.info({ agent: svid.id, expires: svid.notAfter.toISOString() }, 'agent has its identity')

  const svids = new SvidCache({ keyType: config.workloadKeyType, maxIdle: config.x509SvidCacheMaxSize, random }, clock, log)
  const identities = new NodeIdentities(svid.bundle, svids, clock)
  const client = scope.use(new ServerClient({
    addresses: config.serverAddresses,
    random,
    agentId: svid.id,
    identity: () => svid.identity,
    verifyServer: verifyServerWith(() => identities.bundle, clock),
    log
  }))
  const metrics = createMetrics({ prefix: 'assay_agent' })
  const counters = agentMetrics(metrics, { identities, svids })
  const attested = attestationMetrics(metrics)
  const jwts = new JwtCache(config.jwtSvidCacheMaxSize, clock)
  const source = identitySource(identities, jwts, client)
  const attestors = plugins.all('WorkloadAttestor')
  const attest = async (context: CallContext): Promise<readonly Selector[]> => {
    if (context.caller.kind !== 'unix') throw new SpiffeError('workload_attestation_failed', 'the caller is not a local process')
    return await attestWorkload(context.caller.peer, { attestors, clock, log: context.log, metrics: attested }, context.signal)
  }

  const ready = async () => {
    if (!identities.synced) throw new SpiffeError('server_initializing', 'the agent has not synchronised yet')
  }
  const services: BoundService[] = [
    ...config.disableWorkloadApi ? [] : [bind(workloadService, workloadHandlers({
      attestWorkload: attest,
      identities: source,
      clock,
      allowUnauthenticatedVerifiers: config.allowUnauthenticatedVerifiers,
      allowedForeignJwtClaims: config.allowedForeignJwtClaims
    }))],
    ...config.disableSdsApi ? [] : [bind(secretDiscoveryService, sdsHandlers({
      attestWorkload: attest,
      identities,
      clock,
      aliases: {
        svid: config.sds.defaultSvidName, bundle: config.sds.defaultBundleName, allBundles: config.sds.defaultAllBundlesName
      },
      disableSpiffeCertValidation: config.sds.disableSpiffeCertValidation,
      admit: config.sds.requireSecurityHeader ? requireSecurityHeader : undefined,
      metrics: counters.sds
    }))],
    healthService(ready)
  ]
  const rpc = scope.use(openRpcServer({ services: [...services, ...reflectionServices(services)], log, clock }))
  const { path } = await rpc.listenUnix({ path: config.socketPath, mode: 0o777 })
  log.info({ socket: path }, 'agent is serving')
  onReady?.({ socketPath: path })

  try {
    await runTasks(signal, [
      signal => svid.run((csr, signal) => client.renewAgent(csr, signal), () => client.reconnect(), signal),
      signal => identities.run(client, signal),
      signal => followServer({
        client,
        agentId: svid.id,
        identities,
        trustDomain,
        intervalMs: config.syncIntervalSeconds * 1000,
        onBundle: async bundle => {
          jwts.setTainted(new Set(bundle.jwtAuthorities.flatMap(({ keyId, tainted }) => tainted ? [keyId] : [])))
          await svid.setBundle(bundle)
        },
        onSynced: () => counters.synced(),
        postStatus: signal => client.postStatus(version, signal),
        clock,
        log,
        random
      }, signal),
      signal => serveDiagnostics(config, { metrics, probes: { agent: ready }, log }, signal)
    ])
  } catch (error) {
    if (!endsAgent(error)) throw error
    await kept.remove()
    throw asEnding(error)
  }
  log.info('agent is stopping')
}

/** What an earlier run left, if it is still good; an expired SVID is of no use any more. */
async function storedState (store: AgentStateStore, clock: Clock, log: Logger): Promise<AgentState | undefined> {
  const state = await store.read()
  if (state === undefined) return undefined
  const { notAfter } = new AgentSvid(state, { store, clock, log, random: () => 0 })
  if (notAfter > clock.now()) return state
  log.warn({ expired: notAfter.toISOString() }, 'the stored agent SVID has expired; attesting again')
  return undefined
}
