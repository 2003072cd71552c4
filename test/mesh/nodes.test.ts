import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { readStartTime } from '../../src/runtime/process-facts.ts'
import { findEnvoy, until } from '../fakes/envoy.ts'
import { PodWorkload, type Reply } from '../fakes/pod-workload.ts'
import { noNamespaces } from '../fakes/pods.ts'
import { Nodes } from './nodes.ts'

const skip = noNamespaces()
const assay = join(import.meta.dirname, '../../bin/assay')

void t.test('two nodes: agents run their Envoys, services are reached, workloads come and go', { skip, timeout: 120_000 }, async t => {
  await using nodes = await Nodes.open()
  const [one, two] = await Promise.all([nodes.startNode('one'), nodes.startNode('two', { metricsPort: 9_988 })])
  const pods = [['one/a', '10.77.0.2'], ['one/b', '10.77.0.3'], ['two/c', '10.77.0.4'], ['two/d', '10.77.0.5']] as const
  for (const [name, address] of pods) nodes.network.addPod(name, address, { redirected: false })
  await Promise.all([
    nodes.register(one, '/a', 'netns:name:a'), nodes.register(one, '/b', 'netns:name:b'),
    nodes.register(two, '/web', 'netns:name:c')
  ])
  const [a, b, c, d] = await Promise.all(pods.map(([name]) => PodWorkload.start(nodes.network, name)))
  await nodes.service('web', '10.99.0.1', ['/web'], ['/a'], 'permissive')
  // Until its own proxy knows that the port speaks HTTP, the workload is not told who calls.
  const called = async () => (await a!.http('10.99.0.1', 80)).body?.includes('URI=spiffe://example.org/a') === true
  await until('a to reach the service', called).catch((error: unknown) => {
    t.comment(one.log().split('\n').slice(-60).join('\n'))
    t.comment(two.log().split('\n').slice(-60).join('\n'))
    throw error
  })
  const { body } = await a!.http('10.99.0.1', 80)
  const told = { name: 'two/c', xfcc: 'URI=spiffe://example.org/a' }
  t.match(JSON.parse(body ?? '{}'), told, 'the workload on the other node learns who called')
  // Each port has looks of its own at whether somebody answers.
  await until('a to reach the service\'s other port', async () => (await a!.tcp('10.99.0.1', 90)).body === 'two/c hello')
  t.not((await b!.http('10.99.0.1', 80)).status, 200, 'who is no caller of the service is refused')
  t.match(await a!.tcp('10.77.0.2', 9000), { body: 'one/a hello' }, 'a workload reaches itself')
  t.match(await c!.http('10.77.0.3', 8080), { error: /.+/ }, 'one that answers for no service is not reached, in the clear least of all')

  const { workloads, proxies, envoy } = await nodes.live('two')
  const byName = Object.fromEntries(workloads.map(one => [one.name, one]))
  t.match(byName, { c: { spiffeId: 'spiffe://example.org/web', served: true }, d: { spiffeId: '' } })
  t.match({ proxies, envoy }, { proxies: 1, envoy: { state: 'LIVE', version: '1.40.0', restarts: 0, listenersWarming: 0, log: Array } })
  t.ok(envoy!.listeners >= 5, `its ${envoy!.listeners} listeners: three of the workload, two of every node`)

  t.match(await d!.http('10.77.0.4', 8080), { status: 200 }, 'while the service moves in, who has no identity may come in the clear')
  await until('it to be told of', async () => (await nodes.status('two')).plaintext.length > 0)
  t.match((await nodes.status('two')).plaintext, [{ address: '10.77.0.5', spiffeId: 'spiffe://example.org/web' }])
  const read = 'fetch("http://127.0.0.1:9988/metrics").then(answer => answer.text()).then(console.log)'
  let metrics = ''
  await until('an agent that serves metrics to tell who called whom', () => {
    metrics = nodes.network.inNode(process.execPath, '-e', read)
    const requests = metrics.split('\n').filter(line => line.startsWith('assay_agent_mesh_requests_total{'))
    return requests.some(line => line.includes('source="spiffe://example.org/a"') && line.includes('destination="spiffe://example.org/web"'))
  })
  t.match(metrics, /^assay_agent_entries \d+$/m, 'beside its own')

  const id = await nodes.register(two, '/web', 'netns:name:d')
  await until('the second workload of the service', async () =>
    /two\/d/.test((await a!.http('10.99.0.1', 80)).body ?? ''))
  await nodes.unregister(id)
  let lost: Reply[] = []
  await until('the second workload to answer no more', async () => {
    const answers = await Promise.all(Array.from({ length: 10 }, () => a!.http('10.99.0.1', 80)))
    lost = [...lost, ...answers.filter(({ status }) => status !== 200)]
    return answers.every(({ body }) => body?.includes('two/c') === true)
  })
  if (lost.length > 0) for (const node of ['one', 'two']) t.comment(`${node}: ${await readFile(nodes.accessLog(node), 'utf8')}`)
  t.strictSame(lost, [], 'no call is lost on the way')

  const lift = await nodes.revoke('/a')
  const refused = async () => (await a!.http('10.99.0.1', 80)).status !== 200
  await until('an ID that is revoked to get no further', refused)
  await lift()
  await until('its identity to be back', called)

  process.kill(envoy?.pid ?? 0, 'SIGKILL')
  await until('Envoy to be started again', async () => (await nodes.status('two')).envoy?.restarts === 1)
  await nodes.live('two')
  await until('the service to be reached again', called)
})

void t.test('processes of the host itself call with the identity of whoever has the connection', { skip, timeout: 120_000 }, async t => {
  await using nodes = await Nodes.open()
  const agent = await nodes.startNode('one', { mesh: { host_processes: true } })
  nodes.network.addPod('one/b', '10.77.0.3', { redirected: false })
  await PodWorkload.start(nodes.network, 'one/b')
  await Promise.all([
    nodes.register(agent, '/web', 'netns:name:b'), nodes.register(agent, '/alice', 'unix:uid:1001'),
    nodes.register(agent, '/carol', 'unix:uid:1003')
  ])
  await nodes.service('web', '10.99.0.1', ['/web'])
  // A virtual address needs a route, as any other that is not on the link.
  nodes.network.inNode('ip', 'route', 'add', '10.99.0.0/16', 'dev', 'br0')
  for (const uid of [1001, 1002, 1003]) nodes.network.inNode(assay, 'redirect', 'apply', '-uid', String(uid))
  const [alice, bob, carol] = await Promise.all([1001, 1002, 1003].map(uid => PodWorkload.startOnNode(nodes.network, uid)))
  await until('alice to reach the service', async () => (await alice!.http('10.99.0.1', 80)).body?.includes('xfcc":"URI') === true)
  const peers: (string | undefined)[] = []
  // One that could not be attested in time fails, and is tried again; none is taken for another's.
  await until('ten calls', async () => {
    const { status, body } = await alice!.http('10.99.0.1', 80)
    if (status === 200) peers.push((JSON.parse(body ?? '{}') as { xfcc?: string }).xfcc)
    return peers.length === 10
  })
  t.strictSame(new Set(peers), new Set(['URI=spiffe://example.org/alice']), 'each connection is attested')
  await until('alice to reach the port of bytes', async () => (await alice!.tcp('10.99.0.1', 90)).body === 'one/b hello')
  t.not((await bob!.http('10.99.0.1', 80)).status, 200, 'a process without an entry gets nowhere')
  t.equal((await bob!.tcp('10.99.0.1', 90)).body ?? '', '', 'nor by TCP')
  await until('the agent to say so', () => agent.log().includes('a connection has no identity: no entry matches'))

  const seen: (string | undefined)[] = []
  for (const caller of [alice, carol, bob, alice, carol]) {
    let reply = await caller!.http('10.99.0.1', 80, { localPort: 19_001 })
    if (caller !== bob) {
      await until('a call from that port', async () => reply.status === 200 ||
        (reply = await caller!.http('10.99.0.1', 80, { localPort: 19_001 })).status === 200)
    }
    seen.push(reply.status === 200 ? (JSON.parse(reply.body ?? '{}') as { xfcc?: string }).xfcc?.replace(/.*\//, '') : 'nobody')
  }
  t.strictSame(seen, ['alice', 'carol', 'nobody', 'alice', 'carol'],
    'finding 10: a port that is used again is no name: who calls from it next is attested anew, also by one worker')
})

void t.test('an agent that is killed, or replaced, leaves its Envoy to the next one', { skip, timeout: 120_000 }, async t => {
  await using nodes = await Nodes.open()
  const agent = await nodes.startNode('one')
  for (const [name, address] of [['one/a', '10.77.0.2'], ['one/b', '10.77.0.3']] as const) {
    nodes.network.addPod(name, address, { redirected: false })
  }
  await Promise.all([nodes.register(agent, '/a', 'netns:name:a'), nodes.register(agent, '/web', 'netns:name:b')])
  const [a] = await Promise.all(['one/a', 'one/b'].map(name => PodWorkload.start(nodes.network, name)))
  await nodes.service('web', '10.99.0.1', ['/web'])
  await until('a to reach the service', async () => (await a!.http('10.99.0.1', 80)).body?.includes('URI=spiffe://example.org/a') === true)
  const pid = (await nodes.status('one')).envoy?.pid
  const calls = { made: 0, failed: [] as Reply[], over: false }
  const calling = (async () => {
    while (!calls.over) {
      const reply = await a!.http('10.99.0.1', 80)
      calls.made++
      if (reply.status !== 200) calls.failed.push(reply)
    }
  })()

  await agent.kill9()
  const made = calls.made
  await until('calls without an agent', () => calls.made > made + 20)
  const second = await nodes.startNode('one', { folder: agent.folder })
  await until('Envoy to be back at its agent', async () => (await nodes.status('one')).proxies === 1)
  t.match((await nodes.status('one')).envoy, { pid, restarts: 0 }, 'the one that runs is taken over')

  const third = await nodes.startNode('one', { folder: agent.folder, takeOver: true })
  await second.process.exited()
  await until('Envoy to be at the new agent', async () => (await nodes.status('one')).proxies === 1)
  t.match((await nodes.status('one')).envoy, { pid, restarts: 0 }, 'also by a successor')
  nodes.network.addPod('one/c', '10.77.0.4', { redirected: false })
  await nodes.register(agent, '/c', 'netns:name:c')
  const isServed = async () => (await nodes.status('one')).workloads.some(({ name, served }) => name === 'c' && served)
  await until('a newcomer to be served', isServed)
  t.strictSame(calls.failed, [], `none of ${calls.made} calls failed`)

  // What it is started with has changed: another takes its place while it drains.
  const fourth = await nodes.startNode('one', {
    folder: agent.folder, takeOver: true, mesh: { envoy: { path: findEnvoy(), concurrency: 2 } }
  })
  await third.process.exited()
  await until('another Envoy', async () => ![undefined, 0, pid].includes((await nodes.status('one')).envoy?.pid))
  await until('the old one to be gone', () => readStartTime(pid ?? 0) === undefined)
  const madeThen = calls.made
  await until('calls by the new one alone', () => calls.made > madeThen + 20)
  const { envoy } = await nodes.live('one')
  t.equal(envoy?.restarts, 0)
  calls.over = true
  await calling
  // The kernel resets what waits to be accepted where somebody stops listening; ended first, it would be each call for a second.
  t.comment(`${calls.failed.length} of ${calls.made} calls failed`)
  const reset = ({ error, status }: Reply) => error === 'ECONNRESET' || status === 503
  t.strictSame(calls.failed.filter(reply => !reset(reply)), [], 'calls go on, but for what was just arriving')
  t.ok(calls.failed.length <= 3, `here or at the other end: ${JSON.stringify(calls.failed)}`)

  // Killed while one drains: whoever comes next ends that too.
  const other = { path: findEnvoy(), concurrency: 2 }
  const pidOf = async () => (await nodes.status('one')).envoy?.pid ?? 0
  let [before, old, last] = [fourth, envoy?.pid ?? 0, envoy?.pid ?? 0]
  // That lasts some seconds, for which a machine may stand still.
  await until('an agent to be killed while the Envoy of before is still there', async () => {
    old = last
    other.concurrency++
    const fifth = await nodes.startNode('one', { folder: agent.folder, takeOver: true, mesh: { envoy: other } })
    await before.process.exited()
    before = fifth
    await until('yet another Envoy', async () => ![0, old].includes(last = await pidOf()))
    await fifth.kill9()
    return readStartTime(old) !== undefined
  }, 60_000)
  const sixth = await nodes.startNode('one', { folder: agent.folder, mesh: { envoy: other } })
  await until('it to be gone', () => readStartTime(old) === undefined)
  await until('the other one to be taken over', async () => await pidOf() === last)

  await sixth.stop()
  t.equal(readStartTime(last), undefined, 'an agent that is stopped ends it')
})
