import { randomBytes } from 'node:crypto'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { silentLogger, type Logger } from '../../src/runtime/logger.ts'
import type { ServerConfig } from '../../src/server/server-config.ts'
import { startTestServer, type TestServer } from './server.ts'

export interface TestReplicas extends AsyncDisposable {
  readonly servers: readonly TestServer[]
  /** One more on the same database, for the caller to dispose. */
  start (config?: Partial<ServerConfig>, log?: Logger): Promise<TestServer>
}

/** The configuration of a key manager that shares keys through the database. */
export function databaseKeys (
  keyFile: string, UpstreamAuthority: ServerConfig['plugins']['UpstreamAuthority'] = []
): Pick<ServerConfig, 'plugins'> {
  const KeyManager = [{ name: 'database', config: { key_encryption_key_file: keyFile } }]
  return { plugins: { KeyManager, UpstreamAuthority, NodeAttestor: [], BundlePublisher: [], CredentialComposer: [], Notifier: [] } }
}

/** Whole servers in this process on one database, with one root. */
export async function startTestReplicas (
  datastoreUrl: string, count: number, config: Partial<ServerConfig> = {}, upstream: ServerConfig['plugins']['UpstreamAuthority'] = []
): Promise<TestReplicas> {
  const folder = await mkdtemp(join(tmpdir(), 'assay-replicas-'))
  const keyFile = join(folder, 'kek')
  await writeFile(keyFile, randomBytes(32).toString('hex'), { mode: 0o600 })
  const start = (more: Partial<ServerConfig> = {}, log: Logger = silentLogger) =>
    startTestServer({ config: { datastoreUrl, ...databaseKeys(keyFile, upstream), ...config, ...more }, log })
  const servers: TestServer[] = []
  for (let n = 0; n < count; n++) servers.push(await start())
  return {
    servers,
    start,
    async [Symbol.asyncDispose] () {
      await Promise.all(servers.map(server => server[Symbol.asyncDispose]()))
      await rm(folder, { recursive: true, force: true })
    }
  }
}
