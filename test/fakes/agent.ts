import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { z } from 'zod'
import { agentCatalog } from '../../src/agent/agent-catalog.ts'
import type { AgentConfig } from '../../src/agent/agent-config.ts'
import type { NodePolicies } from '../../src/agent/node-policies.ts'
import type { NodeMesh } from '../../src/agent/node-services.ts'
import { runAgent } from '../../src/agent/agent.ts'
import { pluginSchemas } from '../../src/plugins/catalog.ts'
import type { SvidStore } from '../../src/plugins/svid-store.ts'
import { openUnixChannel, type Channel } from '../../src/rpc/channel.ts'
import { usualTelemetry } from '../../src/rpc/telemetry/telemetry-config.ts'
import type { Clock } from '../../src/runtime/clock.ts'
import { silentLogger, type Logger } from '../../src/runtime/logger.ts'
import { encodePem } from '../../src/x509/pem.ts'
import { createJoinToken, fetchBundle, type ServerAccess } from './agent-client.ts'

export interface TestAgent extends AsyncDisposable {
  readonly config: AgentConfig
  readonly folder: string
  /** `/spire/agent/join_token/<token>`. */
  readonly path: string
  /** To its Workload API and SDS socket, as this process. */
  readonly workload: Channel
  /** Settles when the agent ends. */
  readonly ended: Promise<void>
}

export interface TestAgentOptions {
  readonly config?: Partial<AgentConfig>
  readonly clock?: Clock
  readonly log?: Logger
  /** Of an earlier agent, to go on with its identity. */
  readonly folder?: string
  readonly token?: string
  readonly mesh?: NodeMesh
  readonly policies?: NodePolicies
  readonly svidStores?: readonly SvidStore[]
}

/** Metadata every Workload API call needs. */
export const securityHeader = { metadata: { 'workload.spiffe.io': 'true' } }

/** A server of ours or SPIRE's, wherever it runs. */
export interface JoinableServer extends ServerAccess { readonly config: Pick<AgentConfig, 'trustDomain'> }

/** A whole agent in this process, joined to the server with a fresh token under the pinned bundle; synchronises every 50 ms. */
export async function startTestAgent (server: JoinableServer, options: TestAgentOptions = {}): Promise<TestAgent> {
  const folder = options.folder ?? await mkdtemp(join(tmpdir(), 'assay-agent-'))
  const token = options.token ?? await createJoinToken(server)
  const bundlePath = join(folder, 'bundle.pem')
  const { x509Authorities } = await fetchBundle(server)
  await writeFile(bundlePath, x509Authorities.map(({ asn1 }) => encodePem('CERTIFICATE', asn1)).join(''))
  const config: AgentConfig = {
    trustDomain: server.config.trustDomain,
    serverAddresses: [`127.0.0.1:${server.ready.port}`],
    socketPath: join(folder, 'agent.sock'),
    adminSocketPath: undefined,
    authorizedDelegates: [],
    broker: undefined,
    dataDir: folder,
    trustBundlePath: bundlePath,
    trustBundleUrl: undefined,
    trustBundleUnixSocket: undefined,
    trustBundleFormat: 'pem',
    trustBundleWorkloadApi: undefined,
    insecureBootstrap: false,
    rebootstrap: undefined,
    joinToken: token,
    joinTokenFile: undefined,
    disableSdsApi: false,
    disableWorkloadApi: false,
    allowUnauthenticatedVerifiers: false,
    allowedForeignJwtClaims: [],
    workloadKeyType: 'ec-p256',
    x509SvidCacheMaxSize: 1000,
    jwtSvidCacheMaxSize: 1000,
    syncIntervalSeconds: 0.05,
    rateLimits: [],
    requirePqKem: false,
    syncForm: 'changes',
    jwtCacheHitTimeoutMs: undefined,
    availabilityTargetMs: undefined,
    offlineMaxAgeSeconds: 86_400,
    keepWorkloadKeys: true,
    takeOver: false,
    sds: {
      defaultSvidName: 'default',
      defaultBundleName: 'ROOTCA',
      defaultAllBundlesName: 'ALL',
      disableSpiffeCertValidation: false,
      requireSecurityHeader: false
    },
    regoKeys: {},
    mesh: undefined,
    plugins: z.strictObject(pluginSchemas(agentCatalog)).parse({}),
    logLevel: 'info',
    logFile: undefined,
    logFormat: 'json',
    logSourceLocation: false,
    prometheus: undefined,
    telemetry: usualTelemetry,
    healthChecks: undefined,
    logSelectors: [],
    ...options.config
  }
  const stop = new AbortController()
  const { promise: ready, resolve } = Promise.withResolvers<void>()
  const ended = runAgent(config, stop.signal, {
    log: options.log ?? silentLogger,
    onReady: () => resolve(),
    mesh: options.mesh,
    policies: options.policies,
    svidStores: options.svidStores,
    ...(options.clock === undefined ? {} : { clock: options.clock })
  })
  await Promise.race([ready, ended])
  const workload = openUnixChannel(config.socketPath)
  return {
    config,
    folder,
    path: `/spire/agent/join_token/${token}`,
    workload,
    ended,
    async [Symbol.asyncDispose] () {
      await workload[Symbol.asyncDispose]()
      stop.abort(new Error('the test is over'))
      await ended.catch(() => {})
      if (options.folder === undefined) await rm(folder, { recursive: true, force: true })
    }
  }
}
