import { randomBytes } from 'node:crypto'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { openUnixChannel } from '../../src/rpc/channel.ts'
import { agentService } from '../../src/wire/generated/server-agent.ts'
import { entryService } from '../../src/wire/generated/server-entry.ts'
import type { SPIFFEIDInit } from '../../src/wire/generated/types.ts'
import { startPostgres } from '../../test/fakes/postgres.ts'
import { startServer, type RunningServer, type StartServerOptions } from '../../test/fakes/processes.ts'
import { withCallers } from './callers.ts'

/** Equal replicas as processes of their own on a PostgreSQL of their own, with one root; rate limits off. */
export class ReplicaBed implements AsyncDisposable {
  readonly #scope: AsyncDisposableStack
  readonly #options: StartServerOptions
  readonly #servers: RunningServer[]

  private constructor (scope: AsyncDisposableStack, options: StartServerOptions, servers: RunningServer[]) {
    this.#scope = scope
    this.#options = options
    this.#servers = servers
  }

  /** @param config further keys for each one's `server` block */
  static async open (count: number, config: StartServerOptions['config'] = {}): Promise<ReplicaBed> {
    await using scope = new AsyncDisposableStack()
    const postgres = scope.use(await startPostgres())
    const folder = await mkdtemp(join(tmpdir(), 'assay-bed-'))
    scope.defer(() => rm(folder, { recursive: true, force: true }))
    const keyFile = join(folder, 'key-encryption-key')
    await writeFile(keyFile, randomBytes(32).toString('hex'), { mode: 0o600 })
    const options = {
      config: { datastore_url: postgres.url, ...config },
      blocks: { plugins: { KeyManager: { database: { plugin_data: { key_encryption_key_file: keyFile } } } } }
    }
    const servers: RunningServer[] = []
    for (let n = 0; n < count; n++) servers.push(scope.use(await startServer(options)))
    return new ReplicaBed(scope.move(), options, servers)
  }

  get servers (): readonly RunningServer[] { return this.#servers }
  get addresses (): string[] { return this.#servers.map(({ address }) => address) }

  /** The administrator's calls at one of the replicas. */
  admin (index: number) {
    const channel = openUnixChannel(this.#server(index).adminSocket)
    return Object.assign(channel, { entries: channel.client(entryService), agents: channel.client(agentService) })
  }

  /** Tokens whose agents all have this ID as well. */
  async joinTokens (count: number, agentId: SPIFFEIDInit): Promise<string[]> {
    await using admin = this.admin(0)
    const tokens: string[] = []
    await withCallers(8, count, async () => { tokens.push((await admin.agents.createJoinToken({ ttl: 3600, agentId })).value) })
    return tokens
  }

  async kill9 (index: number): Promise<void> { await this.#server(index).kill9() }

  /** Again, where it was; its folder and the process that was killed go with the bed. */
  async restart (index: number): Promise<void> {
    const { folder, port } = this.#server(index)
    this.#servers[index] = this.#scope.use(await startServer({ ...this.#options, folder, port }))
  }

  async [Symbol.asyncDispose] (): Promise<void> { await this.#scope.disposeAsync() }

  #server (index: number): RunningServer { return this.#servers[index] as RunningServer }
}
