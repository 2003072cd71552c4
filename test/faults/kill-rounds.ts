import { generateKeyPairSync, randomInt } from 'node:crypto'
import { lstat, mkdtemp, readdir, rm, stat } from 'node:fs/promises'
import { DatabaseSync } from 'node:sqlite'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { decodeJwt } from 'jose'
import type { Test } from 'tap'
import { validateJwtSvid } from '../../src/jwt/validate-jwt-svid.ts'
import type { Channel } from '../../src/rpc/channel.ts'
import { parseCertificate } from '../../src/x509/certificate.ts'
import { createCertificateRequest } from '../../src/x509/certificate-request.ts'
import { verifyX509Svid } from '../../src/x509/verify-svid.ts'
import { decodeBundle } from '../../src/wire/bundle-codec.ts'
import type { Bundle as BundleMessage } from '../../src/wire/generated/types.ts'
import { attestOver, openServerChannel } from '../fakes/agent-client.ts'
import { spawnServer, startAgent, startServer, type RunningAgent, type RunningServer } from '../fakes/processes.ts'
import { eventually } from '../fakes/eventually.ts'
import { Administrator, idMessage } from '../interop/administrator.ts'
import { leafOf, Workload } from './workload.ts'

/** What the server confirmed, and must therefore still know after any crash. */
class Confirmed {
  readonly entries = new Set<string>()
  readonly deleted = new Set<string>()
  /** Join tokens that nobody has used. */
  readonly tokens = new Set<string>()
  /** Join tokens that attested an agent. */
  readonly used = new Set<string>()
  readonly chains: Array<readonly Uint8Array[]> = []
  readonly jwts: string[] = []
  /** Authorities that were published: X.509 as base64, JWT by key ID. */
  readonly authorities = new Set<string>()
}

/** Kills the server at random points under writes, attestations and signatures, and starts it again on the same folder. */
export async function killServerRounds (t: Test, rounds: number): Promise<void> {
  await using folder = await temporaryFolder('assay-kill-server-')
  const confirmed = new Confirmed()
  let server = await startServer({ folder: folder.path })
  await using agent = await startAgent({ server })
  const { id } = agent
  await using setUp = new Administrator(server)
  await setUp.register('spiffe://example.org/workload', id)
  for (let round = 1; round <= rounds; round++) {
    const load = new Load(server, confirmed, round)
    await wait(randomInt(20, 900))
    await server.kill9()
    await load.ended()
    server = await startServer({ folder: folder.path, port: server.port })
    await t.test(`server, round ${round}: ${load.writes} writes confirmed before the crash`, t => checkServer(t, server, confirmed))
  }
  await using workload = new Workload(agent.socket)
  t.ok(await workload.granted('spiffe://example.org/workload'), 'the agent came through it all with its identity')
  t.equal(agent.process.running, true, 'the agent lives')
  await using admin = new Administrator(server)
  await admin.register('spiffe://example.org/after', id)
  t.ok(await workload.granted('spiffe://example.org/after'), 'and follows the restarted server')
  t.equal(await server.stop(), 0, 'the server stops cleanly at last')
  checkDatabase(t, folder.path)
}

export interface RotatingOptions {
  /** Keys for the `server` block. */
  readonly config?: Readonly<Record<string, unknown>>
}

/** The same while keys and authorities are made all the time; also kills it on its way up, when it catches up with them. */
export async function killRotatingServerRounds (t: Test, rounds: number, { config = {} }: RotatingOptions = {}): Promise<void> {
  await using folder = await temporaryFolder('assay-kill-rotating-')
  const confirmed = new Confirmed()
  // A CA certificate begins 10 s before it is made, so its successor is due at once; that of a JWT key is after 1.3 s.
  const options = { folder: folder.path, config: { ca_ttl: '4s', default_x509_svid_ttl: '2s', default_jwt_svid_ttl: '2s', ...config } }
  let server = await startServer(options)
  for (let round = 1; round <= rounds; round++) {
    const load = new Load(server, confirmed, round)
    // On a busy machine the first agent takes its time; without one there is nothing to lose.
    if (round === 1) await eventually('an agent to be attested', () => confirmed.used.size > 0)
    await wait(randomInt(20, 1500))
    await server.kill9()
    await load.ended()
    const { process } = await spawnServer({ ...options, port: server.port })
    await wait(randomInt(200, 900))
    await process.kill9()
    server = await startServer({ ...options, port: server.port })
    await t.test(`rotating server, round ${round}: ${load.writes} writes confirmed`, t => checkServer(t, server, confirmed))
  }
  t.ok(confirmed.authorities.size > 2, `${confirmed.authorities.size} authorities were published in all`)
  t.ok(confirmed.used.size > 0, `${confirmed.used.size} agents were attested in all`)
  t.equal(await server.stop(), 0, 'the server stops cleanly at last')
  if (config['datastore_url'] === undefined) checkDatabase(t, folder.path)
}

/** Kills servers that start for the first time: keys, authorities and database are being made. */
export async function killFirstStarts (t: Test, rounds: number): Promise<void> {
  for (let round = 1; round <= rounds; round++) {
    await using folder = await temporaryFolder('assay-kill-start-')
    const { process } = await spawnServer({ folder: folder.path })
    await wait(randomInt(150, 1200))
    await process.kill9()
    await using server = await startServer({ folder: folder.path })
    await t.test(`first start, round ${round}`, t => checkServer(t, server, new Confirmed()))
    await server.stop()
    checkDatabase(t, folder.path)
  }
}

/** Kills the agent at random points while it renews its SVID every few seconds and serves workloads. */
export async function killAgentRounds (t: Test, rounds: number): Promise<void> {
  await using server = await startServer({ config: { agent_ttl: '16s' } })
  await using folder = await temporaryFolder('assay-kill-agent-')
  await using admin = new Administrator(server)
  let agent: RunningAgent = await startAgent({ server, folder: folder.path })
  const { id } = agent
  await admin.register('spiffe://example.org/workload', id, { x509SvidTtl: 20 })
  for (let round = 1; round <= rounds; round++) {
    const load = keepFetching(agent)
    await wait(randomInt(20, 4000))
    await agent.kill9()
    await load
    const halfWritten = (await stateFiles(agent)).filter(name => name !== 'agent-data.json')
    agent = await startAgent({ server, folder: folder.path })
    await using workload = new Workload(agent.socket)
    const leaf = leafOf(await workload.granted('spiffe://example.org/workload'))
    await t.test(`agent, round ${round}`, async t => {
      t.equal(agent.id, id, 'it keeps its identity and needs no new token')
      t.equal(leaf.uriSans[0], 'spiffe://example.org/workload', 'it serves again, on the socket that the dead one left')
      t.equal((await stat(join(agent.dataDir, 'agent-data.json'))).mode & 0o777, 0o600, 'its key is private')
      // The agent that runs now may be writing a file of its own: only the dead one's must be gone.
      const files = await stateFiles(agent)
      t.ok(files.includes('agent-data.json'), 'its state is there')
      t.same(halfWritten.filter(name => files.includes(name)), [], 'what the dead one left half-written is gone')
    })
  }
  t.equal(await agent.stop(), 0, 'the agent stops cleanly at last')
  await t.rejects(lstat(agent.socket), { code: 'ENOENT' }, 'and takes its socket away')
}

async function stateFiles (agent: RunningAgent): Promise<string[]> {
  return (await readdir(agent.dataDir)).filter(name => name.includes('agent-data'))
}

/** Writes, attestations and signatures on several connections until the server is gone. */
class Load {
  writes = 0
  readonly #loops: Array<Promise<void>>

  constructor (server: RunningServer, confirmed: Confirmed, round: number) {
    this.#loops = [0, 1, 2].map(async lane => {
      await using admin = new Administrator(server)
      await using anonymous = openServerChannel({ ready: server })
      for (let step = 0; server.process.running; step++) {
        try {
          await this.#step({ admin, anonymous }, confirmed, `r${round}-l${lane}-s${step}`)
        } catch (error) {
          if (server.process.running && !isLost(error)) throw error
          return
        }
      }
    })
  }

  async ended (): Promise<void> { await Promise.all(this.#loops) }

  async #step ({ admin, anonymous }: { admin: Administrator, anonymous: Channel }, confirmed: Confirmed, name: string): Promise<void> {
    const entries = [0, 1, 2, 3, 4].map(index => ({
      id: `${name}-${index}`,
      spiffeId: idMessage(`spiffe://example.org/load/${name}/${index}`),
      parentId: idMessage('spiffe://example.org/node'),
      selectors: [{ type: 'unix', value: 'uid:1' }]
    }))
    for (const { entry, status } of (await admin.entries.batchCreateEntry({ entries })).results) {
      if (status?.code !== 0) throw new Error(`not created: ${status?.message}`)
      confirmed.entries.add(entry?.id ?? '')
      this.writes++
    }
    const gone = `${name}-4`
    // From here on it may be there or not; only a confirmation decides.
    confirmed.entries.delete(gone)
    await admin.entries.batchDeleteEntry({ ids: [gone] })
    confirmed.deleted.add(gone)
    await admin.agents.createJoinToken({ ttl: 600, token: name })
    confirmed.tokens.add(name)
    const joining = `${name}-agent`
    await admin.agents.createJoinToken({ ttl: 600, token: joining })
    const { chain } = await attestOver(anonymous, joining)
    confirmed.used.add(joining)
    confirmed.chains.push(chain)
    const { svid } = await admin.svids.mintX509SVID({ csr: newRequest('spiffe://example.org/minted') })
    confirmed.chains.push(svid?.certChain ?? [])
    const jwt = await admin.svids.mintJWTSVID({ id: idMessage('spiffe://example.org/minted'), audience: ['db'] })
    confirmed.jwts.push(jwt.svid?.token ?? '')
    this.writes += 6
    for (const name of authoritiesOf(await admin.bundles.getBundle({}))) confirmed.authorities.add(name)
  }
}

async function checkServer (t: Test, server: RunningServer, confirmed: Confirmed): Promise<void> {
  await using admin = new Administrator(server)
  const stored = new Set((await admin.entries.listEntries({ outputMask: {} })).entries.map(entry => entry.id))
  t.same([...confirmed.entries].filter(id => !stored.has(id)), [], 'no confirmed entry is lost')
  t.same([...confirmed.deleted].filter(id => stored.has(id)), [], 'no deleted entry is back')
  const agents = new Set((await admin.agents.listAgents({})).agents.map(({ id }) => id?.path.split('/').at(-1)))
  t.same([...confirmed.used].filter(token => !agents.has(token)), [], `all of ${confirmed.used.size} agents are known`)
  await using anonymous = openServerChannel({ ready: server })
  const outcomeOf = (call: Promise<unknown>) => call.then(() => 'OK', (error: unknown) => (error as { code?: string }).code)
  const forgotten = []
  for (const token of confirmed.tokens) {
    if (await outcomeOf(admin.agents.createJoinToken({ ttl: 60, token })) !== 'join_token_exists') forgotten.push(token)
  }
  t.same(forgotten, [], `each of ${confirmed.tokens.size} unused join tokens is known`)
  const usable = []
  for (const token of confirmed.used) {
    if (await outcomeOf(attestOver(anonymous, token)) !== 'join_token_invalid') usable.push(token)
  }
  t.same(usable, [], `none of ${confirmed.used.size} used join tokens can be used again`)
  const [unused] = confirmed.tokens
  if (unused !== undefined) {
    confirmed.tokens.delete(unused)
    t.equal(await outcomeOf(attestOver(anonymous, unused)), 'OK', 'one that was not used attests an agent')
    confirmed.used.add(unused)
  }
  const message = await admin.bundles.getBundle({})
  const bundle = decodeBundle(message)
  const published = new Set(authoritiesOf(message))
  t.same([...confirmed.authorities].filter(authority => !published.has(authority)), [], 'every authority that was published still is')
  for (const name of published) confirmed.authorities.add(name)
  const bundleOf = (trustDomain: string) => trustDomain === bundle.trustDomain ? bundle : undefined
  const fails = (check: () => unknown) => {
    try {
      check()
      return false
    } catch {
      return true
    }
  }
  // As of the last second of each: some have expired since, their authorities are published for a while yet.
  const chains = confirmed.chains.filter(chain => fails(() => verifyX509Svid(chain, { bundleOf, at: lastSecondOf(chain) })))
  t.equal(chains.length, 0, `all ${confirmed.chains.length} X509-SVIDs signed before verify by this bundle`)
  const jwts = confirmed.jwts.filter(token =>
    fails(() => validateJwtSvid(token, { bundleOf, audience: ['db'], at: new Date(((decodeJwt(token).exp ?? 0) - 1) * 1_000) })))
  t.equal(jwts.length, 0, `all ${confirmed.jwts.length} JWT-SVIDs signed before verify by this bundle`)
  const { svid } = await admin.svids.mintX509SVID({ csr: newRequest('spiffe://example.org/probe') })
  const now = decodeBundle(await admin.bundles.getBundle({}))
  const probe = verifyX509Svid(svid?.certChain ?? [], { bundleOf: () => now, at: lastSecondOf(svid?.certChain ?? []) })
  t.equal(probe.id, 'spiffe://example.org/probe', 'it signs, by an authority that is published')
  const keyFile = join(server.dataDir, 'keys.json')
  t.equal((await stat(keyFile)).mode & 0o777, 0o600, 'the keys are private')
}

/** They may live shorter than a machine stands still. */
function lastSecondOf ([leaf]: readonly Uint8Array[]): Date {
  return new Date(parseCertificate(leaf ?? new Uint8Array()).notAfter.getTime() - 1_000)
}

function authoritiesOf ({ x509Authorities, jwtAuthorities }: BundleMessage): string[] {
  return [...x509Authorities.map(({ asn1 }) => Buffer.from(asn1).toString('base64')), ...jwtAuthorities.map(({ keyId }) => keyId)]
}

function newRequest (id: string): Uint8Array {
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  return createCertificateRequest(privateKey, { uriSans: [id] })
}

function checkDatabase (t: Test, folder: string): void {
  using database = new DatabaseSync(join(folder, 'data', 'datastore.sqlite3'), { readOnly: true })
  t.same(database.prepare('PRAGMA integrity_check').all().map(row => row['integrity_check']), ['ok'], 'the database is whole')
}

/** Opens stream after stream until the agent is gone. */
async function keepFetching (agent: RunningAgent): Promise<void> {
  while (agent.process.running) {
    await using workload = new Workload(agent.socket)
    await workload.fetch().catch(() => undefined)
    await wait(5)
  }
}

function isLost (error: unknown): boolean {
  return ['UNAVAILABLE', 'CANCELLED'].includes(String((error as { status?: unknown }).status))
}

async function temporaryFolder (prefix: string) {
  const path = await mkdtemp(join(tmpdir(), prefix))
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }) }
}

function wait (ms: number): Promise<void> { return new Promise(resolve => setTimeout(resolve, ms)) }
