import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { openUnixChannel, type Channel } from '../../src/rpc/channel.ts'
import { trustDomainService } from '../../src/wire/generated/server-trust-domain.ts'
import { startServer } from '../../test/fakes/processes.ts'
import { startSpireServer } from '../../test/fakes/spire.ts'
import { withCallers } from '../measure/callers.ts'
import { cpuMsOf, residentMibOf } from '../measure/process-usage.ts'
import type { Partners } from './partners.ts'

interface FollowingProcess extends AsyncDisposable {
  readonly pid: number
  readonly adminSocket: string
}

export type FollowerName = 'Assay' | 'SPIRE'

/** A server in a process of its own, on SQLite, that is told to follow partners. */
export class Follower implements AsyncDisposable {
  readonly name: FollowerName
  readonly #server: FollowingProcess
  readonly #admin: Channel
  readonly #scope: AsyncDisposableStack

  private constructor (name: FollowerName, server: FollowingProcess, admin: Channel, scope: AsyncDisposableStack) {
    this.name = name
    this.#server = server
    this.#admin = admin
    this.#scope = scope
  }

  /** Follows nobody yet. */
  static async start (name: FollowerName, { webRoot }: Partners, leastRefreshInterval = '1m'): Promise<Follower> {
    await using scope = new AsyncDisposableStack()
    const ca = scope.use(await webCaFile(webRoot))
    const server: FollowingProcess = scope.use(await (name === 'Assay'
      ? startServer({ config: { federation: followingConfig(ca.path, leastRefreshInterval) } })
      : startSpireServer({ environment: { SSL_CERT_FILE: ca.path }, config: { log_level: 'INFO' } })))
    const admin = scope.use(openUnixChannel(server.adminSocket))
    return new Follower(name, server, admin, scope.move())
  }

  get cpuMs (): number { return cpuMsOf(this.#server.pid) }
  get residentMib (): number { return residentMibOf(this.#server.pid) }

  async follow (partners: Partners): Promise<void> { await relate(this.#admin, partners) }

  /** Has it fetch from each partner once, now. */
  async refreshAll ({ trustDomains }: Partners, callers: number): Promise<void> {
    const client = this.#admin.client(trustDomainService)
    await withCallers(callers, trustDomains.length, async index => {
      await client.refreshBundle({ trustDomain: trustDomains[index] }, { timeoutMs: 60_000 })
    })
  }

  async [Symbol.asyncDispose] (): Promise<void> { await this.#scope.disposeAsync() }
}

export function followingConfig (webCaPath: string, leastRefreshInterval: string): object {
  return { web_ca_path: webCaPath, least_refresh_interval: leastRefreshInterval }
}

/** Goes with its folder. */
export async function webCaFile (webRoot: string): Promise<{ readonly path: string } & AsyncDisposable> {
  const folder = await mkdtemp(join(tmpdir(), 'bench-federation-'))
  const path = join(folder, 'web-ca.pem')
  await writeFile(path, webRoot)
  return { path, [Symbol.asyncDispose]: () => rm(folder, { recursive: true, force: true }) }
}

/** Tells a server of all partners. */
export async function relate (admin: Channel, partners: Partners): Promise<void> {
  const federationRelationships = partners.relationships()
  const { results } = await admin.client(trustDomainService).batchCreateFederationRelationship({ federationRelationships })
  const refused = results.find(({ status }) => status?.code !== 0)
  if (refused !== undefined) throw new Error(`a relationship was not made: ${refused.status?.message}`)
}
