import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import type { DecisionEvent } from '../../src/authz/decision-log/decision-event.ts'
import { readPolicies } from '../../src/authz/policy/read-policies.ts'
import type { ReportedDecision } from '../../src/mesh/decisions/read-report.ts'
import { parseSpiffeId } from '../../src/spiffe/spiffe-id.ts'
import { applyPolicies } from '../fakes/apply-policies.ts'
import { until } from '../fakes/envoy.ts'
import { PodWorkload, type Reply } from '../fakes/pod-workload.ts'
import { noNamespaces } from '../fakes/pods.ts'
import { runAssay } from '../fakes/run-assay.ts'
import { MeshRig } from './mesh-rig.ts'
import { Nodes } from './nodes.ts'

const skip = noNamespaces()
const id = (path: string) => `spiffe://example.org${path}`
/** Of the pod's TCP server. */
const answered = 'one/b hello'
const timed = [{ time: { notBefore: '2020-01-01T00:00:00Z' } }]
const policy = (name: string, rules: readonly object[]) => JSON.stringify({
  apiVersion: 'assay/v1', kind: 'Policy', name, workloads: { ids: [id('/web')] }, rules
})

/** Two pods of one node, of which one answers for a service, and what its agent writes down. */
class Lab implements AsyncDisposable {
  readonly nodes: Nodes
  readonly a: PodWorkload
  readonly #file: string

  private constructor (nodes: Nodes, a: PodWorkload, file: string) {
    this.nodes = nodes
    this.a = a
    this.#file = file
  }

  static async open (decisions: object): Promise<Lab> {
    const nodes = await Nodes.open()
    const file = join(nodes.network.folder, '../decisions.log')
    const node = await nodes.startNode('one', { mesh: { decision_log: { file, mask: ['/input/source/address'], ...decisions } } })
    nodes.network.addPod('one/a', '10.77.0.2', { redirected: false })
    nodes.network.addPod('one/b', '10.77.0.3', { redirected: false })
    await nodes.register(node, '/a', 'netns:name:a')
    await nodes.register(node, '/web', 'netns:name:b')
    const [a] = await Promise.all(['one/a', 'one/b'].map(pod => PodWorkload.start(nodes.network, pod)))
    await nodes.service('web', '10.99.0.1', ['/web'])
    const lab = new Lab(nodes, a!, file)
    await lab.become('/', 200)
    return lab
  }

  ask (path: string, headers: Readonly<Record<string, string>> = {}): Promise<Reply> {
    return this.a.http('10.99.0.1', 80, { path, headers })
  }

  async become (path: string, status: number): Promise<void> {
    await until(`${path} to be answered by ${status}`, async () => (await this.ask(path)).status === status)
  }

  get written (): DecisionEvent[] {
    if (!existsSync(this.#file)) return []
    // What has no end yet is being written.
    return readFileSync(this.#file, 'utf8').split('\n').slice(0, -1).map(line => JSON.parse(line) as DecisionEvent)
  }

  async why (requestId: string, ...more: string[]): Promise<string> {
    const { code, stdout } = await runAssay(['why-denied', requestId, '-agent', this.nodes.adminSocket('one'), ...more])
    return code === 0 ? stdout : ''
  }

  /** Of a request's ID, once the proxy has told. */
  async explained (requestId: string): Promise<string> {
    let told = ''
    await until(`the agent to know of ${requestId}`, async () => { told = await this.why(requestId); return told !== '' })
    return told
  }

  async [Symbol.asyncDispose] (): Promise<void> { await this.nodes[Symbol.asyncDispose]() }
}

void t.test('who is refused learns a request ID, by which the agent tells why, whoever decided', { skip, timeout: 120_000 }, async t => {
  await using lab = await Lab.open({})
  await applyPolicies(lab.nodes.admin, [policy('p', [
    { name: 'items', action: 'allow', from: [{ ids: [id('/a')] }], to: [{ paths: ['/items/*'] }] },
    { name: 'never', action: 'deny', to: [{ paths: ['/items/secret'] }] }
  ])])
  await lab.become('/', 403)
  const secret = await lab.ask('/items/secret?token=1', { authorization: 'Bearer x' })
  const requestId = secret.headers?.['x-request-id'] ?? ''
  t.match([secret.status, requestId], [403, /^[0-9a-f-]{36}$/], 'a caller that gave the request no ID')
  const told = (await lab.explained(requestId)).split('\n').map(line => line.replace(/ *: /, '='))
  t.strictSame(told.slice(0, 6), ['Decision=DENIED', 'Decided by=the node\'s Envoy', 'By=rule p/never', `Source=${id('/a')}`,
    `Destination=${id('/web')}`, 'Operation=GET /items/secret on 8080'])
  t.equal((await lab.ask('/elsewhere', { 'x-request-id': 'mine' })).headers?.['x-request-id'], 'mine', 'or one that did')
  t.match(await lab.explained('mine'), /By +: no rule: there are allow rules about the workload/)
  const letIn = await lab.ask('/items/7', { 'x-request-id': 'let-in' })
  t.strictSame([letIn.status, letIn.headers?.['x-request-id']], [200, undefined], 'the workload\'s answers are its own')

  await applyPolicies(lab.nodes.admin, [policy('q', [
    { name: 'office-hours', action: 'allow', from: [{ ids: [id('/a')] }], to: [{ paths: ['/items/*'] }], when: timed },
    { name: 'closed', action: 'deny', to: [{ paths: ['/items/closed'] }] }
  ])], { replaces: 1n })
  await lab.become('/items/secret', 200)
  const asked = await lab.ask('/items/closed', { 'x-request-id': 'asked' })
  t.match([asked.status, asked.headers?.['x-request-id']], [403, 'asked'])
  t.match(await lab.explained('asked'), /Decision +: DENIED\nBy +: rule q\/closed/, 'decided by the agent, when it was asked')
  t.equal((await lab.ask('/other', { 'x-request-id': 'not-asked' })).status, 403)
  t.match(await lab.explained('not-asked'), /Decision +: DENIED\nDecided by +: the node's Envoy\nBy +: no rule: there are allow rules/,
    'what is not about such a rule the proxy decides by itself')

  const event = (of: string) => lab.written.find(({ custom }) => custom.request_id === of)
  await until('the log', () => event('asked') !== undefined && event('mine') !== undefined)
  t.match(event(requestId), {
    labels: { node: /./ }, bundles: { assay: { revision: /^1-[0-9a-f]{64}$/ } },
    input: { http: { method: 'GET', path: '/items/secret' }, destination: { port: 8080 } }, custom: { decided_by: 'proxy' },
    erased: ['/input/http/headers', '/input/source/address'], metrics: {}
  })
  t.notMatch(JSON.stringify(lab.written), /Bearer|token=1/, 'no secret')
  t.equal(event('let-in'), undefined, 'of what the proxy lets in it tells nothing, unless asked to')
  t.match(event('asked'), { bundles: { assay: { revision: /^2-/ } }, metrics: { timer_server_handler_ns: Number } })
  t.equal(event('asked')?.custom.decided_by, undefined)
  t.equal(await lab.why('unknown'), '')
})

void t.test('all that the proxy decides, requests and connections, when asked to', { skip, timeout: 120_000 }, async t => {
  await using lab = await Lab.open({ proxy: 'all', remembered: 5 })
  await applyPolicies(lab.nodes.admin, [policy('p', [
    { name: 'seen', action: 'audit', to: [{ paths: ['/items/*'] }] },
    { name: 'items', action: 'allow', from: [{ ids: [id('/a')] }], to: [{ paths: ['/items/*'] }] }
  ])])
  await lab.become('/', 403)
  t.equal((await lab.ask('/items/7', { 'x-request-id': 'let-in' })).status, 200)
  t.match(await lab.explained('let-in'), /Decision +: ALLOWED\nDecided by +: the node's Envoy\nBy +: rule p\/items\n/)
  // Rules for connections come beside those for requests.
  await until('bytes to be refused', async () => (await lab.a.tcp('10.99.0.1', 90)).body !== answered)
  const tcp = (rule: string) => lab.written.find(({ input, result }) => input.http === undefined && result.rule === rule)
  const refused = () => lab.written.find(({ input, result }) => input.http === undefined && !result.allowed)
  await until('the refused connection', () => refused() !== undefined)
  t.match(refused(), {
    input: { source: { id: id('/a') }, destination: { id: id('/web'), port: 9000 } }, result: { reason: 'no-rule-allows' },
    custom: { decided_by: 'proxy' }
  })
  t.match(lab.written.find(({ custom }) => custom.request_id === 'let-in'), { result: { rule: 'p/items', audits: ['p/seen'] } })

  await applyPolicies(lab.nodes.admin, [policy('p', [{ name: 'raw', action: 'allow', from: [{ ids: [id('/a')] }] }])], { replaces: 1n })
  await lab.become('/', 200)
  await until('bytes to be let in', async () => (await lab.a.tcp('10.99.0.1', 90)).body === answered)
  await until('the connection that was let in', () => tcp('p/raw') !== undefined)
  t.match(tcp('p/raw'), { result: { allowed: true } })

  const byAgent = () => lab.written.filter(({ input, custom }) => input.http === undefined && custom.decided_by === undefined)
  await applyPolicies(lab.nodes.admin, [policy('p', [{ name: 'timed', action: 'allow', when: timed }])], { replaces: 2n })
  await until('the agent to be asked about connections', async () => {
    await lab.a.tcp('10.99.0.1', 90)
    return byAgent().length > 0
  })
  await applyPolicies(lab.nodes.admin, [policy('p', [{ name: 'last', action: 'allow' }])], { replaces: 3n })
  await until('the proxy to decide again', async () => {
    await lab.a.tcp('10.99.0.1', 90)
    return lab.written.some(({ input, result }) => input.http === undefined && result.rule === 'p/last')
  })
  // Before, the proxy still decided by the rules of before.
  const since = byAgent()[0]?.input.time ?? ''
  const twice = lab.written.filter(({ input, result, custom }) =>
    result.rule === 'p/timed' && custom.decided_by === 'proxy' && input.time > since)
  t.strictSame(twice, [], 'what the agent was asked about is written down once')
})

void t.test('reports of who comes by mTLS without a tunnel, and of who comes without', { skip, timeout: 120_000 }, async t => {
  const reports: ReportedDecision[] = []
  await using rig = await MeshRig.open({ onReport: report => reports.push(report) })
  await rig.pod('b', '10.77.0.3')
  rig.network.addPod('plain', '10.77.0.9', { redirected: false })
  const plain = await PodWorkload.start(rig.network, 'plain')
  await rig.startEnvoy()
  await rig.serving('b')
  const b = parseSpiffeId('spiffe://lab.test/b')
  rig.directory.set({ endpoints: rig.localEndpoints(), services: [{
    name: 'web', address: '10.99.0.1', spiffeIds: [b], plaintext: 'permit', ports: [{ port: 80, targetPort: 8080, protocol: 'http' }]
  }] })
  const set = readPolicies([{ name: 'test', text: JSON.stringify([
    { apiVersion: 'assay/v1', kind: 'Settings', trustDomain: 'lab.test', defaultAction: 'deny' },
    { apiVersion: 'assay/v1', kind: 'Policy', name: 'p', rules: [
      { name: 'known', action: 'allow', from: [{ ids: ['spiffe://lab.test/*'] }] },
      { name: 'public', action: 'allow', to: [{ paths: ['/public'] }] }
    ] }
  ]) }])
  rig.policies.set({ kind: 'set', set })
  await rig.settled()
  await rig.drained()
  const reported = async (what: Partial<ReportedDecision['request']['destination']>, allowed: boolean) => {
    const found = () => reports.findIndex(one => one.allowed === allowed && one.request.destination.port === what.port)
    await until('the report', () => found() >= 0)
    return reports.splice(found(), 1)[0]
  }
  const answer = await rig.callDirectly(await rig.domain.issue('/guest'), '10.77.0.3', 8080)
  t.equal(answer.status, 200)
  const destination = { id: b, address: '10.77.0.3', port: 8080 }
  t.match(await reported({ port: 8080 }, true), {
    rule: 'p/known', request: { source: { id: 'spiffe://lab.test/guest', address: '10.77.0.1' }, destination, http: { method: 'GET' } }
  })
  const refused = await plain.http('10.77.0.3', 8080, { headers: { 'x-forwarded-client-cert': `URI=${b}` } })
  t.equal(refused.status, 403)
  t.match(await reported({ port: 8080 }, false), {
    rule: undefined, requestId: refused.headers?.['x-request-id'], request: { source: { id: undefined, address: '10.77.0.9' }, destination }
  })
  t.equal((await plain.http('10.77.0.3', 8080, { path: '/public' })).status, 200)
  t.match(await reported({ port: 8080 }, true), { rule: 'p/public', request: { source: { id: undefined }, destination } })
  t.not((await plain.tcp('10.77.0.3', 9000)).body, 'b hello')
  t.match(await reported({ port: 9000 }, false), { request: { http: undefined, source: { id: undefined, address: '10.77.0.9' } } })
})
