import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { firstOf } from '../../src/runtime/first-of.ts'
import { openUnixChannel } from '../../src/rpc/channel.ts'
import { decodeBundle } from '../../src/wire/bundle-codec.ts'
import { bundleService } from '../../src/wire/generated/server-bundle.ts'
import { localAuthorityService } from '../../src/wire/generated/server-local-authority.ts'
import { svidService } from '../../src/wire/generated/server-svid.ts'
import { workloadService } from '../../src/wire/generated/workload.ts'
import { createCertificateRequest } from '../../src/x509/certificate-request.ts'
import { parseCertificate } from '../../src/x509/certificate.ts'
import { verifyX509Svid } from '../../src/x509/verify-svid.ts'
import { newKey } from '../fakes/agent-client.ts'
import { eventually } from '../fakes/eventually.ts'
import { startAgent, startServer, type RunningAgent, type RunningServer } from '../fakes/processes.ts'
import { Administrator } from './administrator.ts'
import { freePort } from '../fakes/free-port.ts'

type AnyServer = Pick<RunningServer, 'trustDomain' | 'address' | 'adminSocket'>

const spireServer = process.env['SPIRE_SERVER_BIN']
const skip = spireServer === undefined ? 'SPIRE_SERVER_BIN names no spire-server' : false
if (skip !== false) t.comment(`beside SPIRE: skipped: ${skip}`)
const patienceMs = 60_000

const upstreamOf = (above: AnyServer, agent: RunningAgent) => {
  const [host, port] = above.address.split(':')
  return { server_address: host, server_port: port, workload_api_socket: agent.socket }
}

/** An agent above, with a downstream identity for whoever runs as this user. */
async function startAgentFor (above: AnyServer, name: string): Promise<RunningAgent> {
  const agent = await startAgent({ server: above })
  await using administrator = new Administrator(above)
  await administrator.register(`spiffe://example.org/${name}`, agent.id, { downstream: true })
  await using workload = openUnixChannel(agent.socket)
  const fetch = () => firstOf(workload.client(workloadService).fetchX509SVID({}, { metadata: { 'workload.spiffe.io': 'true' } }))
  await eventually(`the identity of ${name}`, () => fetch().then(() => true, () => false), patienceMs)
  return agent
}

const startBelow = (above: AnyServer, agent: RunningAgent) =>
  startServer({ blocks: { plugins: { UpstreamAuthority: { spire: { plugin_data: upstreamOf(above, agent) } } } } })

async function bundleOf ({ adminSocket }: AnyServer) {
  await using channel = openUnixChannel(adminSocket)
  return decodeBundle(await channel.client(bundleService).getBundle({}))
}

async function mint ({ adminSocket }: AnyServer): Promise<readonly Uint8Array[]> {
  await using channel = openUnixChannel(adminSocket)
  const csr = createCertificateRequest(newKey(), { uriSans: ['spiffe://example.org/minted'] })
  return (await channel.client(svidService).mintX509SVID({ csr })).svid?.certChain ?? []
}

function rootOf (chain: readonly Uint8Array[]): string {
  return Buffer.from(parseCertificate(chain.at(-1) as Uint8Array).authorityKeyId ?? []).toString('hex')
}

async function replaceRoot (top: AnyServer, lowest: AnyServer): Promise<{ before: string, after: string }> {
  await using channel = openUnixChannel(top.adminSocket)
  const authorities = channel.client(localAuthorityService)
  const before = (await authorities.getX509AuthorityState({})).active?.authorityId ?? ''
  const after = (await authorities.prepareX509Authority({})).preparedAuthority?.authorityId ?? ''
  await eventually('the new root to be known below', async () => (await bundleOf(lowest)).x509Authorities.length === 2, patienceMs)
  await authorities.activateX509Authority({ authorityId: after })
  await authorities.taintX509Authority({ authorityId: before })
  await eventually('the lowest server to sign below the new root', async () => rootOf(await mint(lowest)) === after, patienceMs)
  await authorities.revokeX509Authority({ authorityId: before })
  await eventually('the old root to be gone below', async () => (await bundleOf(lowest)).x509Authorities.length === 1, patienceMs)
  return { before, after }
}

await t.test('two and three levels in processes of their own; a server is killed and comes back', { timeout: 300_000 }, async t => {
  await using scope = new AsyncDisposableStack()
  const root = scope.use(await startServer())
  const rootAgent = scope.use(await startAgentFor(root, 'one'))
  const middle = scope.use(await startBelow(root, rootAgent))
  const middleAgent = scope.use(await startAgentFor(middle, 'two'))
  const low = scope.use(await startBelow(middle, middleAgent))
  const top = await bundleOf(root)
  for (const [server, length] of [[root, 1], [middle, 2], [low, 3]] as const) {
    const chain = await mint(server)
    t.equal(chain.length, length)
    t.ok(verifyX509Svid(chain, { bundleOf: () => top, at: new Date() }))
    t.same((await bundleOf(server)).x509Authorities, top.x509Authorities)
  }
  await middle.kill9()
  t.ok(verifyX509Svid(await mint(low), { bundleOf: () => top, at: new Date() }), 'the lowest signs on without the one above it')
  const plugins = { UpstreamAuthority: { spire: { plugin_data: upstreamOf(root, rootAgent) } } }
  const port = Number(middle.address.split(':')[1])
  scope.use(await startServer({ folder: middle.folder, port, blocks: { plugins } }))
  await replaceRoot(root, low)
  t.equal((await mint(low)).length, 3)
})

/** A real spire-server in a process of its own. */
async function startSpire (upstream?: Readonly<Record<string, unknown>>): Promise<AnyServer & AsyncDisposable> {
  const folder = await mkdtemp(join(tmpdir(), 'spire-server-'))
  const port = await freePort()
  const adminSocket = join(folder, 'api.sock')
  const block = (data: Readonly<Record<string, unknown>>) => ({ plugin_data: data })
  const config = {
    server: {
      trust_domain: 'example.org', bind_address: '127.0.0.1', bind_port: port, socket_path: adminSocket, data_dir: folder,
      log_level: 'DEBUG'
    },
    plugins: {
      DataStore: [{ sql: block({ database_type: 'sqlite3', connection_string: join(folder, 'db.sqlite3') }) }],
      KeyManager: [{ memory: block({}) }],
      NodeAttestor: [{ join_token: block({}) }],
      ...upstream === undefined ? {} : { UpstreamAuthority: [{ spire: block(upstream) }] }
    }
  }
  await writeFile(join(folder, 'server.conf'), JSON.stringify(config))
  const child = spawn(spireServer as string, ['run', '-config', join(folder, 'server.conf')], { stdio: ['ignore', 'pipe', 'pipe'] })
  let log = ''
  child.stdout.setEncoding('utf8').on('data', text => { log += text })
  child.stderr.setEncoding('utf8').on('data', text => { log += text })
  const exited = once(child, 'exit')
  const server = {
    trustDomain: 'example.org', address: `127.0.0.1:${port}`, adminSocket,
    async [Symbol.asyncDispose] () {
      child.kill('SIGKILL')
      await exited
      await rm(folder, { recursive: true, force: true })
    }
  }
  try {
    await eventually('spire-server to serve', async () => {
      if (child.exitCode !== null) throw new Error(`spire-server ended:\n${log}`)
      return await bundleOf(server).then(({ x509Authorities }) => x509Authorities.length > 0, () => false)
    }, patienceMs)
  } catch (error) {
    await server[Symbol.asyncDispose]()
    throw error instanceof Error && error.message.includes('spire-server ended') ? error : new Error(`spire-server does not serve:\n${log}`)
  }
  return server
}

await t.test('below a real SPIRE server, whose root is replaced, tainted and revoked', { skip, timeout: 300_000 }, async t => {
  await using scope = new AsyncDisposableStack()
  const spire = scope.use(await startSpire())
  const agent = scope.use(await startAgentFor(spire, 'one'))
  const below = scope.use(await startBelow(spire, agent))
  const bundle = await bundleOf(spire)
  t.equal(verifyX509Svid(await mint(below), { bundleOf: () => bundle, at: new Date() }).id, 'spiffe://example.org/minted')
  t.same((await bundleOf(below)).x509Authorities, bundle.x509Authorities)
  await eventually('our JWT key in its bundle, and its key in ours', async () => {
    const [above, here] = [await bundleOf(spire), await bundleOf(below)]
    return above.jwtAuthorities.length === 2 && here.jwtAuthorities.length === 2
  }, patienceMs)
  await replaceRoot(spire, below)
})

await t.test('a real SPIRE server below ours', { skip, timeout: 300_000 }, async t => {
  await using scope = new AsyncDisposableStack()
  const root = scope.use(await startServer())
  const agent = scope.use(await startAgentFor(root, 'one'))
  const spire = scope.use(await startSpire(upstreamOf(root, agent)))
  const bundle = await bundleOf(root)
  const chain = await mint(spire)
  t.equal(chain.length, 2)
  t.equal(verifyX509Svid(chain, { bundleOf: () => bundle, at: new Date() }).id, 'spiffe://example.org/minted')
  t.same((await bundleOf(spire)).x509Authorities, bundle.x509Authorities)
  await eventually('its JWT key in our bundle', async () => (await bundleOf(root)).jwtAuthorities.length === 2, patienceMs)
  await eventually('our JWT key in its bundle', async () => (await bundleOf(spire)).jwtAuthorities.length === 2, patienceMs)
})
