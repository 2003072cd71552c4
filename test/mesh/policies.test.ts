import t from 'tap'
import { openNodeAuthorization } from '../../src/agent/node-authorization.ts'
import type { NodePolicyState } from '../../src/agent/node-policies.ts'
import { PolicyEngine } from '../../src/authz/policy/policy-engine.ts'
import { readPolicies } from '../../src/authz/policy/read-policies.ts'
import { openPushedBundles } from '../../src/authz/rego/pushed-bundles.ts'
import { readTraffic } from '../../src/mesh/envoy/traffic.ts'
import type { MeshService } from '../../src/mesh/mesh-state.ts'
import { systemClock } from '../../src/runtime/clock.ts'
import { silentLogger } from '../../src/runtime/logger.ts'
import { parseSpiffeId } from '../../src/spiffe/spiffe-id.ts'
import { ordersBundle } from '../authz/rego/pushed.ts'
import { PodWorkload, type Reply } from '../fakes/pod-workload.ts'
import { HeldConnections } from '../fakes/held-connections.ts'
import { noNamespaces } from '../fakes/pods.ts'
import { applyPolicies } from '../fakes/apply-policies.ts'
import { until } from '../fakes/envoy.ts'
import { MeshRig } from './mesh-rig.ts'
import { Nodes } from './nodes.ts'

const skip = noNamespaces()
const addresses = { a: '10.77.0.2', b: '10.77.0.3', c: '10.77.0.4' } as const
type Name = keyof typeof addresses
const names = ['a', 'b', 'c'] as const
const spiffe = (name: Name) => `spiffe://lab.test/${name}`
const web: MeshService = {
  name: 'web', address: '10.99.0.1', spiffeIds: [parseSpiffeId(spiffe('b'))],
  ports: [{ port: 80, targetPort: 8080, protocol: 'http' }, { port: 90, targetPort: 9000, protocol: 'tcp' }]
}
/** Where tunnels begin. */
const node = '10.77.0.1'
const timed = [{ time: { notBefore: '2020-01-01T00:00:00Z' } }]

function policies (rules: readonly object[], defaultAction: 'allow' | 'deny' = 'deny'): Extract<NodePolicyState, { kind: 'set' }> {
  const set = readPolicies([{ name: 'test', text: JSON.stringify([
    { apiVersion: 'assay/v1', kind: 'Settings', trustDomain: 'lab.test', defaultAction },
    ...rules.length === 0 ? [] : [{ apiVersion: 'assay/v1', kind: 'Policy', name: 'p', rules }]
  ]) }])
  return { kind: 'set', version: 1, revision: set.revision, engine: new PolicyEngine(set) }
}

/** Three pods behind one Envoy, of which b answers for a service, and what decides. */
class Lab implements AsyncDisposable {
  readonly rig: MeshRig
  readonly pods: Readonly<Record<Name, PodWorkload>>
  state: NodePolicyState = { kind: 'none' }

  private constructor (rig: MeshRig, pods: Readonly<Record<Name, PodWorkload>>) {
    this.rig = rig
    this.pods = pods
  }

  static async open (): Promise<Lab> {
    const rig = await MeshRig.open()
    const pods = await Promise.all(names.map(async name => [name, await rig.pod(name, addresses[name])] as const))
    await rig.startEnvoy()
    await rig.serving(...names)
    const lab = new Lab(rig, Object.fromEntries(pods) as Record<Name, PodWorkload>)
    await lab.announce(web)
    return lab
  }

  /** The agent's part that the proxy asks. */
  async answering (): Promise<AsyncDisposable> {
    const current = () => this.state
    return await openNodeAuthorization({
      policies: { get state () { return current() } }, path: this.rig.authorizationSocket, takeOver: false, clock: systemClock,
      log: silentLogger
    })
  }

  async announce (service: MeshService): Promise<void> {
    this.rig.directory.set({ services: [service], endpoints: this.rig.localEndpoints() })
    await this.rig.settled()
    for (const { port } of service.ports) await this.rig.applied(`service/${service.name}/${port}`)
  }

  async decideBy (state: NodePolicyState): Promise<void> {
    this.state = state
    this.rig.policies.set(state.kind === 'set' ? { kind: 'set', set: state.engine.set } : state)
    await this.rig.settled()
    await this.rig.drained()
  }

  /** Status, or 0 for a connection that was not let in. */
  async http (caller: Name, path: string): Promise<number> { return (await this.pods[caller].http('10.99.0.1', 80, { path })).status ?? 0 }
  async tcp (caller: Name): Promise<boolean> { return (await this.pods[caller].tcp('10.99.0.1', 90)).body === 'b hello' }

  async [Symbol.asyncDispose] (): Promise<void> { await this.rig[Symbol.asyncDispose]() }
}

const passed = ({ status }: Reply): boolean => status === 200

void t.test('the node\'s proxy obeys the policies, in tunnels and outside', { skip, timeout: 120_000 }, async t => {
  await using lab = await Lab.open()
  t.strictSame([await lab.http('a', '/x'), await lab.tcp('c')], [200, true], 'without policies services say who may call')

  await lab.decideBy({ kind: 'unknown' })
  t.strictSame([await lab.http('a', '/x'), await lab.tcp('a')], [403, false], 'while nobody knows whether there are any, nobody is let in')

  await lab.decideBy(policies([
    { name: 'reads', action: 'allow', from: [{ ids: [spiffe('a')] }], to: [{ paths: ['/items/{*}'] }] },
    { name: 'raw', action: 'allow', from: [{ ids: [spiffe('a'), spiffe('c')] }], to: [{ ports: [9000] }] },
    { name: 'never', action: 'deny', to: [{ paths: ['/items/secret'] }] }
  ]))
  t.strictSame(await Promise.all(['/items/7', '/items/secret', '/items/7/x', '/items//7', '/other'].map(path => lab.http('a', path))),
    [200, 403, 403, 200, 403], 'by path; what can be read in two ways is made one before')
  t.equal(await lab.http('c', '/items/7'), 403, 'by caller')
  t.notOk(await lab.tcp('a'), 'of bytes nobody knows that they are not what a rule denies')
  const direct = await lab.rig.domain.issue('/a')
  t.notOk(passed(await lab.rig.callDirectly(direct, addresses.b, 8080)), 'mTLS without a tunnel is held against the same rules')

  await lab.decideBy(policies([
    { name: 'raw', action: 'allow', from: [{ ids: [spiffe('a')] }], to: [{ ports: [9000] }] },
    { name: 'all-http', action: 'allow', from: [{ ids: [spiffe('c')] }], to: [{ ports: [8080] }] }
  ]))
  t.strictSame([await lab.tcp('a'), await lab.tcp('c'), await lab.http('a', '/'), await lab.http('c', '/')], [true, false, 403, 200],
    'by port')
  t.notOk(passed(await lab.rig.callDirectly(direct, addresses.b, 8080)), 'also without a tunnel')
  t.ok(passed(await lab.rig.callDirectly(await lab.rig.domain.issue('/c'), addresses.b, 8080)))
  t.match(await lab.rig.tunnel(direct, addresses.b, `${addresses.b}:9000`), { body: 'b hello' }, 'and for anybody\'s tunnel')
  t.not((await lab.rig.tunnel(await lab.rig.domain.issue('/c'), addresses.b, `${addresses.b}:9000`)).body, 'b hello')

  await lab.decideBy(policies([
    { name: 'from-there', action: 'allow', from: [{ addresses: [node] }] },
    { name: 'not-that', action: 'deny', from: [{ ids: [spiffe('c')], addresses: ['10.77.0.0/24'] }] },
    { name: 'nor-that', action: 'deny', from: [{ notAddresses: [node] }] }
  ]))
  t.strictSame([await lab.tcp('a'), await lab.tcp('c'), await lab.http('a', '/'), await lab.http('c', '/')], [true, false, 200, 403],
    'by the address that a tunnel comes from, which is the node\'s')

  await lab.decideBy({ kind: 'none' })
  t.strictSame([await lab.http('c', '/x'), await lab.tcp('c')], [200, true], 'policies that are gone decide no more')
})

void t.test('what the proxy cannot be told, it asks the agent', { skip, timeout: 120_000 }, async t => {
  await using lab = await Lab.open()
  {
    await using scope = new AsyncDisposableStack()
    scope.use(await lab.answering())
    await lab.decideBy(policies([
      { name: 'reads', action: 'allow', from: [{ ids: [spiffe('a')], addresses: [node] }], to: [{ paths: ['/items/*'] }], when: timed },
      { name: 'raw', action: 'allow', from: [{ ids: [spiffe('c')] }], to: [{ ports: [9000] }], when: timed }
    ]))
    t.strictSame(await Promise.all([lab.http('a', '/items/7'), lab.http('a', '/other'), lab.http('c', '/items/7')]), [200, 403, 403],
      'of HTTP in a tunnel: the peer\'s ID and address are the tunnel\'s')
    t.strictSame([await lab.tcp('a'), await lab.tcp('c')], [false, true], 'of bytes in a tunnel')
    const headers = { 'assay-source': spiffe('a'), 'assay-destination': 'x' }
    const forged = await lab.pods.c.http('10.99.0.1', 80, { path: '/items/7', headers })
    t.equal(forged.status, 403, 'no header of a request says who asks')
    const bundle = { name: 'orders', archive: ordersBundle.toString('base64'), entrypoints: [], key: undefined }
    const rego = scope.use(await openPushedBundles([bundle], { keys: {}, clock: systemClock }, new AbortController().signal))
    await lab.decideBy({ ...policies([
      { name: 'known', action: 'allow', from: [{ ids: [spiffe('a')] }] }, { name: 'never', action: 'deny', to: [{ paths: ['/secret'] }] },
      { name: 'tiers', action: 'custom', provider: 'rego/orders/allow' }
    ]), rego })
    const asked = async (name: Name, tier: string, path: string) =>
      (await lab.pods[name].http('10.99.0.1', 80, { path, headers: { 'x-tier': tier } })).status
    t.strictSame([
      await asked('a', 'gold', '/x'), await asked('a', 'iron', '/x'), await asked('a', 'gold', '/secret'), await asked('c', 'gold', '/x')
    ], [200, 403, 403, 403], 'Rego is asked for what rules let in, and lets nobody in whom they refuse')
    const a = await lab.rig.domain.issue('/a')
    await lab.decideBy(policies([{ name: 'reads', action: 'allow', from: [{ ids: [spiffe('a')] }], to: [{ paths: ['/'] }], when: timed }]))
    t.ok(passed(await lab.rig.callDirectly(a, addresses.b, 8080)), 'and is let in by its certificate')
    t.notOk(passed(await lab.rig.callDirectly(await lab.rig.domain.issue('/c'), addresses.b, 8080)))
  }
  t.equal(await lab.http('a', '/'), 503, 'nobody is let in while the agent is away, and the caller learns that it is not a refusal')
  t.strictSame([await lab.http('a', '/other'), await lab.http('c', '/')], [403, 403],
    'whom no such rule is about the proxy refuses by itself')
  const bytes = policies([
    { name: 'raw', action: 'allow', from: [{ ids: [spiffe('a')] }], to: [{ ports: [9000] }] },
    { name: 'then', action: 'allow', from: [{ ids: [spiffe('c')] }], to: [{ ports: [9000] }], when: timed }
  ])
  await lab.decideBy(bytes)
  t.strictSame([await lab.tcp('a'), await lab.tcp('c')], [false, false],
    'but about each connection of bytes to a workload with such a rule it asks, also of whom another rule lets in')
  await lab.decideBy(policies([
    { name: 'reads', action: 'allow', from: [{ ids: [spiffe('a')] }] },
    { name: 'closed', action: 'deny', to: [{ paths: ['/closed/*'] }], when: timed }
  ]))
  t.strictSame(await Promise.all(['/x', '/closed/x', '/closed%2fx'].map(path => lab.http('a', path))), [200, 503, 503],
    'or lets in, but for what such a rule may refuse')
  const a = await lab.rig.domain.issue('/a')
  t.strictSame([passed(await lab.rig.callDirectly(a, addresses.b, 8080)), await lab.http('c', '/x')], [true, 403],
    'also without a tunnel')
  await using scope = new AsyncDisposableStack()
  scope.use(await lab.answering())
  t.equal(await lab.http('a', '/closed/x'), 403, 'once it is back it answers')
  await lab.decideBy(bytes)
  t.strictSame([await lab.tcp('a'), await lab.tcp('c')], [true, true], 'of bytes too')
})

void t.test('policies hold for who comes without mTLS', { skip, timeout: 120_000 }, async t => {
  await using lab = await Lab.open()
  lab.rig.network.addPod('plain', '10.77.0.9', { redirected: false })
  const plain = await PodWorkload.start(lab.rig.network, 'plain')
  await lab.announce({ ...web, plaintext: 'permit' })
  t.equal((await plain.http(addresses.b, 8080)).status, 200)
  await lab.decideBy(policies([
    { name: 'public', action: 'allow', to: [{ paths: ['/public/*'] }] }, { name: 'known', action: 'allow', from: [{ ids: ['spiffe://lab.test/*'] }] }
  ]))
  const forged = { path: '/public/x', headers: { 'x-forwarded-client-cert': `URI=${spiffe('a')}` } }
  const answer = await plain.http(addresses.b, 8080, forged)
  const { xfcc } = JSON.parse(answer.body ?? '{}') as { xfcc: unknown }
  t.strictSame([answer.status, xfcc], [200, null], 'what anybody may, without a name that they give themselves')
  t.equal((await plain.http(addresses.b, 8080)).status, 403, 'and nothing else')
  t.not((await plain.tcp(addresses.b, 9000)).body, 'b hello', 'bytes neither')
  await until('each to be told of as without mTLS', async () => (await readTraffic(lab.rig.adminSocket)).some(({ name, labels, value }) =>
    name === 'plaintext' && labels.get('from') === '10.77.0.9' && labels.get('destination') === spiffe('b') && value >= 3))
  t.equal(await lab.http('a', '/'), 200)
})

void t.test('policies that a server pushes are obeyed by the proxies of two nodes', { skip, timeout: 290_000 }, async t => {
  await using nodes = await Nodes.open()
  const [one, two] = await Promise.all([nodes.startNode('one'), nodes.startNode('two')])
  for (const [name, address] of [['one/a', '10.77.0.2'], ['one/b', '10.77.0.3'], ['two/c', '10.77.0.4']] as const) {
    nodes.network.addPod(name, address, { redirected: false })
  }
  await Promise.all([
    nodes.register(one, '/a', 'netns:name:a'), nodes.register(one, '/b', 'netns:name:b'), nodes.register(two, '/web', 'netns:name:c')
  ])
  const [a, b] = await Promise.all(['one/a', 'one/b', 'two/c'].map(name => PodWorkload.start(nodes.network, name)))
  await nodes.service('web', '10.99.0.1', ['/web'])
  const status = async (pod: PodWorkload | undefined, path: string) => (await pod!.http('10.99.0.1', 80, { path })).status
  const statuses = async () => [await status(a, '/items/7'), await status(b, '/items/7'), await status(a, '/timed/7')]
  const become = async (...expected: number[]) => {
    await until(`answers to be ${expected.join()}`, async () => (await statuses()).join() === expected.join())
  }
  await become(200, 200, 200)
  const documents = (path: string, more: object = {}) => [JSON.stringify({
    apiVersion: 'assay/v1', kind: 'Policy', name: 'web', workloads: { ids: ['spiffe://example.org/web'] },
    rules: [{ name: 'items', action: 'allow', from: [{ ids: ['spiffe://example.org/a'] }], to: [{ paths: [path] }], ...more }]
  })]
  await applyPolicies(nodes.admin, documents('/items/*'))
  await become(200, 403, 403)
  await applyPolicies(nodes.admin, documents('/timed/*', { when: timed }), { replaces: 1n })
  await become(403, 403, 200)
  t.equal((await a!.tcp('10.99.0.1', 90)).body ?? '', '', 'nor does anybody get in whom no rule names')

  const raw = JSON.stringify({
    apiVersion: 'assay/v1', kind: 'Policy', name: 'raw', workloads: { ids: ['spiffe://example.org/web'] },
    rules: [{ name: 'bytes', action: 'allow', from: [{ ids: ['spiffe://example.org/a'] }], to: [{ ports: [9000] }] }]
  })
  await applyPolicies(nodes.admin, [...documents('/timed/*', { when: timed }), raw], { replaces: 2n })
  const held = new HeldConnections(nodes.network, 'one/a')
  let tries = 0
  await until('a connection of bytes', () => held.tcp(`try-${++tries}`, '10.99.0.1', 90))
  const connection = `try-${tries}`

  await two.kill9()
  t.strictSame(await statuses(), [403, 403, 503], 'what only the agent can decide is refused while it is away, and nothing else')
  t.ok(await held.say(connection, 'while it is away'), 'connections of bytes go on')
  await nodes.startNode('two', { folder: two.folder })
  await become(403, 403, 200)
  t.ok(await held.say(connection, 'afterwards'), 'and outlive its return')
  await applyPolicies(nodes.admin, documents('/timed/*', { when: timed }), { replaces: 3n })
  await held.ended(connection)
})
