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
import { type AnyServer, startAgent, startServer, type RunningAgent } from '../fakes/processes.ts'
import { startSpireServer, withoutSpireServer as skip } from '../fakes/spire.ts'
import { Administrator } from './administrator.ts'

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

await t.test('below a real SPIRE server, whose root is replaced, tainted and revoked', { skip, timeout: 300_000 }, async t => {
  await using scope = new AsyncDisposableStack()
  const spire = scope.use(await startSpireServer())
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
  const spire = scope.use(await startSpireServer({ upstream: upstreamOf(root, agent) }))
  const bundle = await bundleOf(root)
  const chain = await mint(spire)
  t.equal(chain.length, 2)
  t.equal(verifyX509Svid(chain, { bundleOf: () => bundle, at: new Date() }).id, 'spiffe://example.org/minted')
  t.same((await bundleOf(spire)).x509Authorities, bundle.x509Authorities)
  await eventually('its JWT key in our bundle', async () => (await bundleOf(root)).jwtAuthorities.length === 2, patienceMs)
  await eventually('our JWT key in its bundle', async () => (await bundleOf(spire)).jwtAuthorities.length === 2, patienceMs)
})
