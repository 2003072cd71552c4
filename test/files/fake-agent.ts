import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { SignJWT } from 'jose'
import { bind } from '../../src/rpc/bound-service.ts'
import { openRpcServer } from '../../src/rpc/server.ts'
import { systemClock } from '../../src/runtime/clock.ts'
import { silentLogger } from '../../src/runtime/logger.ts'
import type { Bundle } from '../../src/spiffe/bundle.ts'
import type { Selector } from '../../src/spiffe/selector.ts'
import { parseSpiffeId } from '../../src/spiffe/spiffe-id.ts'
import type { JwtSvid, X509Svid } from '../../src/spiffe/svid.ts'
import { workloadService } from '../../src/wire/generated/workload.ts'
import { workloadHandlers } from '../../src/workloadapi/workload-handlers.ts'
import { FakeIdentities, identityOf, TestTrustDomain } from '../fakes/identities.ts'

const selectors: readonly Selector[] = [{ type: 'unix', value: 'uid:0' }]

/** The real Workload API on a real socket, of an agent whose identities the test sets. */
export class FakeAgent implements AsyncDisposable {
  readonly folder: string
  readonly domain: TestTrustDomain
  readonly identities: FakeIdentities
  #server: Awaited<ReturnType<typeof serve>> | undefined
  #revision = 0

  private constructor (folder: string, domain: TestTrustDomain) {
    this.folder = folder
    this.domain = domain
    this.identities = new FakeIdentities(domain.bundle)
  }

  static async start (): Promise<FakeAgent> {
    const agent = new FakeAgent(await mkdtemp(join(tmpdir(), 'assay-files-')), await TestTrustDomain.create('example.org'))
    await agent.restart()
    return agent
  }

  get socket (): string { return join(this.folder, 'agent.sock') }

  /** What callers get from now on; none: there is no identity for them. */
  give (svids: readonly X509Svid[], federated: readonly Bundle[] = []): void {
    this.identities.set(selectors, identityOf(this.domain.bundle, svids, federated, ++this.#revision))
  }

  /** A new SVID, given at once. */
  async rotate (path = '/web'): Promise<X509Svid> {
    const svid = await this.domain.issue(path)
    this.give([svid])
    return svid
  }

  async token (path: string, audience: string, { hint = '', seconds = 300 }: { hint?: string, seconds?: number } = {}): Promise<JwtSvid> {
    const id = parseSpiffeId(`spiffe://${this.domain.name}${path}`)
    const issuedAt = new Date()
    const expiresAt = new Date(issuedAt.getTime() + seconds * 1_000)
    const token = await new SignJWT({ sub: id, aud: [audience] }).setIssuedAt(issuedAt).setExpirationTime(expiresAt)
      .setProtectedHeader({ alg: 'ES256', kid: this.domain.jwtKey.keyId, typ: 'JWT' }).sign(this.domain.jwtKey.privateKey)
    return { id, token, issuedAt, expiresAt, hint }
  }

  async stop (): Promise<void> {
    await this.#server?.[Symbol.asyncDispose]()
    this.#server = undefined
  }

  async restart (): Promise<void> {
    await this.stop()
    this.#server = await serve(this.socket, this.identities)
  }

  async [Symbol.asyncDispose] (): Promise<void> {
    await this.stop()
    await rm(this.folder, { recursive: true, force: true })
  }
}

async function serve (path: string, identities: FakeIdentities) {
  const handlers = workloadHandlers({ attestWorkload: async () => selectors, identities, clock: systemClock })
  const server = openRpcServer({ services: [bind(workloadService, handlers)], log: silentLogger, clock: systemClock })
  await server.listenUnix({ path })
  return server
}
