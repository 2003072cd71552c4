import t from 'tap'
import { peersOf } from '../../src/mesh/resources/names.ts'
import { parseSpiffeId } from '../../src/spiffe/spiffe-id.ts'
import { noNamespaces } from '../fakes/pods.ts'
import { chooseSeed, Random } from '../fakes/random.ts'
import { Churn } from './churn.ts'
import { Hostile } from './hostile.ts'
import { Nodes } from './nodes.ts'

const skip = noNamespaces()
const seconds = Number(process.env['SOAK_SECONDS'] ?? 120)
/** Whoever is root and of this group is node two's proxy by rule. */
const proxyGroup = 4_711
const nobody = 65_534
/** Of secrets that are certificates of CAs and no secret; the Workload API gives them to everybody. */
const publicNames = new Set(['spiffe://example.org', 'ALL', 'ROOTCA'])

t.setTimeout((seconds + 400) * 1_000)
await t.test(`two nodes, 20 workloads that come, go and take each other's place, for ${seconds} s`, {
  skip, timeout: (seconds + 300) * 1_000
}, async t => {
  const seed = chooseSeed()
  t.comment(`ASSAY_SEED=${seed}`)
  await using nodes = await Nodes.open()
  const mesh = { redirect: false }
  const [one, two] = await Promise.all([
    nodes.startNode('one', { mesh, logLevel: 'info' }),
    nodes.startNode('two', { mesh: { ...mesh, proxy_selectors: [`unix:gid:${proxyGroup}`] }, logLevel: 'info' })
  ])
  await using hostile = await Hostile.open(nodes)
  const random = new Random(seed)
  const churn = await Churn.open(nodes, { one, two }, random)
  const sockets = [one.socket, two.socket]

  await using load = churn.startLoad()
  const tunnels = { connections: 0, requests: 0, refused: 0, opened: [] as string[] }
  const loot: string[] = []
  let asked = 0
  const end = performance.now() + seconds * 1_000
  for (let step = 0; performance.now() < end; step++) {
    await churn.change()
    if (step % 4 === 3) {
      const found = await hostile.tunnels(churn.live.map(({ address }) => address))
      for (const key of ['connections', 'requests', 'refused'] as const) tunnels[key] += found[key]
      tunnels.opened.push(...found.opened)
    }
    if (step % 8 === 7) {
      await churn.settled('two')
      const names = churn.everyName()
      const mine: readonly string[] = churn.live.filter(({ node }) => node === 'two').map(({ name }) => churn.idOf(name))
      const allowed = new Set(['ALL', ...mine, ...mine.map(id => peersOf(parseSpiffeId(id)))])
      const admitted = await hostile.ask({ socket: nodes.xdsSocket('two'), names, gid: proxyGroup })
      asked += names.length
      loot.push(...admitted.given.filter(name => !allowed.has(name)).map(name => `${name} as the proxy`))
      t.equal(admitted.refused, undefined)
      t.ok(mine.every(id => admitted.given.includes(id)), 'the proxy gets all of its own')
      const pod = nodes.network.path(random.pick(churn.live).path)
      const refused = await Promise.all([
        hostile.ask({ socket: nodes.xdsSocket('one'), names }),
        hostile.ask({ socket: nodes.xdsSocket('two'), names, netns: pod }),
        hostile.ask({ socket: nodes.xdsSocket('two'), names, uid: nobody, gid: proxyGroup }),
        ...sockets.map(socket => hostile.ask({ socket, names, service: 'sds', netns: pod }))
      ])
      asked += names.length * refused.length
      const secret = refused.flatMap(({ given }) => given.filter(name => !publicNames.has(name)))
      loot.push(...secret.map(name => `${name} as nobody`))
      const proxies = refused.slice(0, 3)
      t.ok(proxies.every(answer => answer.refused !== undefined && answer.given.length === 0), 'who is no proxy gets nothing')
    }
  }
  const { calls, failed, wrong } = await load.stop()
  t.comment(`${calls} connections, of which ${failed} failed while ${churn.changes} changes were made; ${wrong.length} wrong identities`)
  t.comment(`${tunnels.requests} hostile tunnels, ${tunnels.opened.length} opened; ${asked} secrets asked for`)
  t.strictSame(wrong, [], 'no connection had a wrong identity')
  t.strictSame(tunnels.opened, [], `of ${tunnels.requests} tunnels on ${tunnels.connections} connections to elsewhere none was opened`)
  t.ok(tunnels.refused > tunnels.requests / 2, `${tunnels.refused} were refused by a proxy that lives`)
  t.strictSame(loot, [], `of ${asked} secrets asked for none was somebody else's`)
  t.ok(asked > 0 && failed < calls / 2, 'and most calls came through')
  await churn.allReached()
})
