import { generateKeyPairSync, randomInt } from 'node:crypto'
import { lstat, mkdtemp, readdir, rm, stat } from 'node:fs/promises'
import { DatabaseSync } from 'node:sqlite'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Test } from 'tap'
import { createCertificateRequest } from '../../src/x509/certificate-request.ts'
import { parseCertificate } from '../../src/x509/certificate.ts'
import { verifyX509Svid } from '../../src/x509/verify-svid.ts'
import { decodeBundle } from '../../src/wire/bundle-codec.ts'
import { spawnServer, startAgent, startServer, type RunningAgent, type RunningServer } from '../fakes/processes.ts'
import { Administrator, idMessage } from '../interop/administrator.ts'
import { leafOf, Workload } from './workload.ts'

/** What the server confirmed, and must therefore still know after any crash. */
interface Confirmed {
  readonly entries: Set<string>
  readonly deleted: Set<string>
  readonly tokens: Set<string>
  readonly chains: Array<readonly Uint8Array[]>
  /** Authorities that were published, as base64. */
  readonly authorities: Set<string>
}

/** Kills the server at random points under writes and signatures, and starts it again on the same folder. */
export async function killServerRounds (t: Test, rounds: number): Promise<void> {
  await using folder = await temporaryFolder('assay-kill-server-')
  const confirmed: Confirmed = { entries: new Set(), deleted: new Set(), tokens: new Set(), chains: [], authorities: new Set() }
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

/** Kills servers that start for the first time: keys, authorities and database are being made. */
export async function killFirstStarts (t: Test, rounds: number): Promise<void> {
  for (let round = 1; round <= rounds; round++) {
    await using folder = await temporaryFolder('assay-kill-start-')
    const { process } = await spawnServer({ folder: folder.path })
    await wait(randomInt(150, 1200))
    await process.kill9()
    await using server = await startServer({ folder: folder.path })
    await t.test(`first start, round ${round}`, t => checkServer(t, server, {
      entries: new Set(), deleted: new Set(), tokens: new Set(), chains: [], authorities: new Set()
    }))
    await server.stop()
    checkDatabase(t, folder.path)
  }
}

/** Kills the agent at random points while it renews its SVID every few seconds and serves workloads. */
export async function killAgentRounds (t: Test, rounds: number): Promise<void> {
  await using server = await startServer({ config: { agent_ttl: '10s' } })
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

/** Writes and signatures on several connections until the server is gone. */
class Load {
  writes = 0
  readonly #loops: Array<Promise<void>>

  constructor (server: RunningServer, confirmed: Confirmed, round: number) {
    this.#loops = [0, 1, 2].map(async lane => {
      await using admin = new Administrator(server)
      for (let step = 0; server.process.running; step++) {
        try {
          await this.#step(admin, confirmed, `r${round}-l${lane}-s${step}`)
        } catch (error) {
          if (server.process.running && !isLost(error)) throw error
          return
        }
      }
    })
  }

  async ended (): Promise<void> { await Promise.all(this.#loops) }

  async #step (admin: Administrator, confirmed: Confirmed, name: string): Promise<void> {
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
    const { svid } = await admin.svids.mintX509SVID({ csr: newRequest('spiffe://example.org/minted') })
    confirmed.chains.push(svid?.certChain ?? [])
    this.writes += 3
    const { x509Authorities } = await admin.bundles.getBundle({})
    for (const { asn1 } of x509Authorities) confirmed.authorities.add(Buffer.from(asn1).toString('base64'))
  }
}

async function checkServer (t: Test, server: RunningServer, confirmed: Confirmed): Promise<void> {
  await using admin = new Administrator(server)
  const stored = new Set((await admin.entries.listEntries({ outputMask: {} })).entries.map(entry => entry.id))
  t.same([...confirmed.entries].filter(id => !stored.has(id)), [], 'no confirmed entry is lost')
  t.same([...confirmed.deleted].filter(id => stored.has(id)), [], 'no deleted entry is back')
  const lastToken = [...confirmed.tokens].at(-1)
  if (lastToken !== undefined) {
    const again = admin.agents.createJoinToken({ ttl: 60, token: lastToken })
    await t.rejects(again, { code: 'join_token_exists' }, 'the last join token is known')
  }
  const bundle = decodeBundle(await admin.bundles.getBundle({}))
  const published = new Set(bundle.x509Authorities.map(({ certificate }) => Buffer.from(certificate).toString('base64')))
  t.same([...confirmed.authorities].filter(authority => !published.has(authority)), [], 'every authority that was published still is')
  const bundleOf = (trustDomain: string) => trustDomain === bundle.trustDomain ? bundle : undefined
  const refused = confirmed.chains.filter(chain => {
    try {
      return verifyX509Svid(chain, { bundleOf, at: new Date() }).chain.length === 0
    } catch {
      return true
    }
  })
  t.equal(refused.length, 0, `all ${confirmed.chains.length} SVIDs signed before verify now`)
  const { svid } = await admin.svids.mintX509SVID({ csr: newRequest('spiffe://example.org/probe') })
  t.equal(parseCertificate(svid?.certChain[0] ?? new Uint8Array()).uriSans[0], 'spiffe://example.org/probe', 'it signs')
  const keyFile = join(server.dataDir, 'keys.json')
  t.equal((await stat(keyFile)).mode & 0o777, 0o600, 'the keys are private')
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
