import t from 'tap'
import { openUnixChannel } from '../../src/rpc/channel.ts'
import { localAuthorityService } from '../../src/wire/generated/server-local-authority.ts'
import { verifyX509Svid } from '../../src/x509/verify-svid.ts'
import { eventually } from '../fakes/eventually.ts'
import { type AnyServer, type RunningAgent, startServer } from '../fakes/processes.ts'
import { startSpireServer, withoutSpireServer as skip } from '../fakes/spire.ts'
import {
  bundleOf, mint, patienceMs, rootOf, rootOfAgent, rootsKnownTo, startAgentFor, startBelow, upstreamOf
} from './nested-servers.ts'

if (skip !== false) t.comment(`beside SPIRE: skipped: ${skip}`)

async function replaceRoot (
  top: AnyServer, lowest: AnyServer, agents: readonly RunningAgent[]
): Promise<{ before: string, after: string }> {
  await using channel = openUnixChannel(top.adminSocket)
  const authorities = channel.client(localAuthorityService)
  const before = (await authorities.getX509AuthorityState({})).active?.authorityId ?? ''
  const after = (await authorities.prepareX509Authority({})).preparedAuthority?.authorityId ?? ''
  await eventually('the new root to be known below', async () => (await bundleOf(lowest)).x509Authorities.length === 2, patienceMs)
  // One that was away since its server was killed would not know that server again.
  await eventually('the agents between to know the new root', async () =>
    (await Promise.all(agents.map(rootsKnownTo))).every(roots => roots.includes(after)), patienceMs)
  await authorities.activateX509Authority({ authorityId: after })
  await authorities.taintX509Authority({ authorityId: before })
  await eventually('the lowest server to sign below the new root', async () => rootOf(await mint(lowest)) === after, patienceMs)
  // Servers below hear of what is above by agents, and those of none whose own SVID is worth nothing any more.
  const behind = () => `the agents between to have SVIDs below the new root: ${agents.map(agent => agent.log()).join('\n')}`
  await eventually(behind, async () => (await Promise.all(agents.map(rootOfAgent))).every(root => root === after), 2.5 * patienceMs)
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
  await replaceRoot(root, low, [rootAgent, middleAgent])
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
  await replaceRoot(spire, below, [agent])
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
