import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { z } from 'zod'
import { AdminRoles } from '../../src/authz/admin/role.ts'
import { pluginSchemas } from '../../src/plugins/catalog.ts'
import { openUnixChannel, type Channel } from '../../src/rpc/channel.ts'
import { usualTelemetry } from '../../src/rpc/telemetry/telemetry-config.ts'
import type { Clock } from '../../src/runtime/clock.ts'
import { silentLogger, type Logger } from '../../src/runtime/logger.ts'
import { serverCatalog } from '../../src/server/server-catalog.ts'
import { runServer, type ServerReady } from '../../src/server/server.ts'
import type { ServerConfig } from '../../src/server/server-config.ts'
import { parseTrustDomain } from '../../src/spiffe/trust-domain.ts'
import { usualPoolLimits } from '../../src/storage/postgres/postgres-pool.ts'

export interface TestServer extends AsyncDisposable {
  readonly config: ServerConfig
  readonly ready: ServerReady
  /** Settles only where one is configured. */
  readonly bundleEndpoint: Promise<{ readonly port: number }>
  /** Over the admin socket. */
  readonly admin: Channel
  readonly folder: string
}

export interface TestServerOptions {
  readonly config?: Partial<ServerConfig>
  readonly clock?: Clock
  readonly log?: Logger
  /** Kept after the server ends; a fresh one, removed at the end, when absent. */
  readonly folder?: string
}

/** A whole server in this process: real sockets, real SQLite, rate limits off. Ends, and cleans up, when disposed. */
export async function startTestServer (options: TestServerOptions = {}): Promise<TestServer> {
  const folder = options.folder ?? await mkdtemp(join(tmpdir(), 'assay-server-'))
  const config = { ...testServerConfig(folder), ...options.config }
  const stop = new AbortController()
  const { promise: ready, resolve } = Promise.withResolvers<ServerReady>()
  const endpoint = Promise.withResolvers<{ readonly port: number }>()
  const run = runServer(config, stop.signal, {
    log: options.log ?? silentLogger, onReady: resolve, onBundleEndpoint: endpoint.resolve,
    ...(options.clock === undefined ? {} : { clock: options.clock })
  })
  const first = await Promise.race([ready, run.then(() => { throw new Error('the server ended before it was ready') })])
  const admin = openUnixChannel(config.socketPath)
  return {
    config,
    ready: first,
    bundleEndpoint: endpoint.promise,
    admin,
    folder,
    async [Symbol.asyncDispose] () {
      await admin[Symbol.asyncDispose]()
      stop.abort(new Error('the test is over'))
      await run
      if (options.folder === undefined) await rm(folder, { recursive: true, force: true })
    }
  }
}

export const noFederation: ServerConfig['federation'] = {
  bundleEndpoint: undefined, webCaPath: undefined, leastRefreshMs: 60_000, partners: [], copies: new Map()
}

/** The section `plugins` of a configuration. */
export function testPlugins (section: Record<string, unknown> = {}): ServerConfig['plugins'] {
  return z.strictObject(pluginSchemas(serverCatalog)).parse(section)
}

function testServerConfig (folder: string): ServerConfig {
  return {
    trustDomain: parseTrustDomain('example.org'),
    bindAddress: '127.0.0.1',
    bindPort: 0,
    trustedProxies: [],
    requirePqKem: false,
    socketPath: join(folder, 'admin.sock'),
    dataDir: folder,
    datastoreUrl: join(folder, 'datastore.sqlite3'),
    datastoreDirectUrl: undefined,
    datastorePool: usualPoolLimits,
    migrateDatastore: true,
    maxStaleMs: 10_000,
    changesKeptMs: 3_600_000,
    caTtlSeconds: 86_400,
    caKeyType: 'ec-p256',
    jwtKeyType: 'ec-p256',
    defaultX509SvidTtlSeconds: 3600,
    defaultJwtSvidTtlSeconds: 300,
    agentTtlSeconds: 3600,
    agentIdAsSelector: false,
    jwtIssuer: undefined,
    disableJwtSvids: false,
    adminIds: [],
    federation: noFederation,
    oidc: undefined,
    roles: new AdminRoles([]),
    socketRequiresRole: false,
    apiPolicy: undefined,
    plugins: testPlugins(),
    caSubject: { country: ['US'], organization: ['SPIFFE'], commonName: '' },
    pruneAgents: undefined,
    auditLog: false,
    ratelimit: { attestation: false, signing: false },
    logLevel: 'info',
    logFile: undefined,
    logFormat: 'json',
    logSourceLocation: false,
    prometheus: undefined,
    telemetry: usualTelemetry,
    healthChecks: undefined,
    notes: []
  }
}
