import { createHash } from 'node:crypto'
import { text as readText } from 'node:stream/consumers'
import t from 'tap'
import { readPolicies } from '../../src/authz/policy/read-policies.ts'
import { parseSpiffeId } from '../../src/spiffe/spiffe-id.ts'
import { noNamespaces } from '../fakes/pods.ts'
import { MeshRig } from './mesh-rig.ts'

const skip = noNamespaces()
const id = (path: string) => parseSpiffeId(`spiffe://lab.test${path}`)
const [b, d] = ['10.77.0.3', '10.77.0.4']
/** Milliseconds to wait for a byte that comes, and for one that does not. */
const [patienceMs, silenceMs] = [60_000, 1_000]

void t.test('what a workload says first is said to nobody who may not call', { skip }, async t => {
  await using rig = await MeshRig.open()
  await rig.pod('b', b)
  await rig.pod('d', d)
  await rig.startEnvoy()
  await rig.serving('b', 'd')
  rig.directory.set({
    services: [{
      name: 'bytes', address: '10.99.0.1', spiffeIds: [id('/b')], callers: ['spiffe://lab.test/caller', 'spiffe://lab.test/team/*'],
      ports: [{ port: 90, targetPort: 9000, protocol: 'tcp' }]
    }],
    endpoints: rig.localEndpoints()
  })
  await rig.settled()
  await rig.applied('service/bytes/90')
  const svids = new Map(await Promise.all(['/caller', '/team/a', '/guest', '/teams/a', '/revoked'].map(async path =>
    [path, await rig.domain.issue(path)] as const)))
  const heard = async (path: string, address = b, ms = patienceMs) => await rig.listenDirectly(svids.get(path)!, address, 9000, ms)
  t.equal(await heard('/caller'), 'b ')
  t.equal(await heard('/team/a'), 'b ')
  t.equal(await heard('/guest', b, silenceMs), '', 'no caller of the service')
  t.equal(await heard('/teams/a', b, silenceMs), '', 'nor is one whose ID begins alike')
  t.equal(await heard('/guest', d), 'd ', 'a port of no service is open to the trust domain')
  t.equal(await heard('/revoked', d), 'd ')
  const digest = createHash('sha256').update(svids.get('/revoked')!.chain[0]!).digest('hex')
  const many = Array.from({ length: 2_000 }, (_, n) => createHash('sha256').update(String(n)).digest('hex'))
  rig.revoked.set({ digests: new Set([digest, ...many]), ids: new Set([id('/team/a')]) })
  await rig.settled()
  t.equal(await heard('/revoked', d, silenceMs), '', 'a revoked SVID')
  t.equal(await heard('/team/a', b, silenceMs), '', 'a revoked ID')
  t.equal(await heard('/caller'), 'b ')
  t.ok(rig.envoyRuns)
})

void t.test('nor to whom policies refuse', { skip }, async t => {
  await using rig = await MeshRig.open()
  const rule = (action: string, path: string) => ({
    name: `${action}${path.replaceAll(/\W+/g, '-')}1`, action, from: [{ ids: [`spiffe://lab.test${path}`] }], to: [{ ports: [9000] }]
  })
  const policies = (...rules: object[]) => ({ kind: 'set', set: readPolicies([{ name: 'test', text: JSON.stringify([
    { apiVersion: 'assay/v1', kind: 'Settings', trustDomain: 'lab.test', defaultAction: 'deny' },
    { apiVersion: 'assay/v1', kind: 'Policy', name: 'b', workloads: { ids: [id('/b')] }, rules }
  ]) }]) } as const)
  rig.policies.set(policies(rule('allow', '/caller'), rule('allow', '/team/*'), rule('deny', '/team/a')))
  await rig.pod('b', b)
  await rig.startEnvoy()
  await rig.serving('b')
  await rig.settled()
  const heard = async (path: string, ms = patienceMs) => await rig.listenDirectly(await rig.domain.issue(path), b, 9000, ms)
  t.equal(await heard('/caller'), 'b ')
  t.equal(await heard('/team/b'), 'b ')
  t.equal(await heard('/team/a', silenceMs), '', 'one whom a rule refuses')
  t.equal(await heard('/guest', silenceMs), '', 'one whom none lets in')
  rig.policies.set(policies(rule('allow', '/guest')))
  await rig.settled()
  t.equal(await heard('/guest'), 'b ', 'a change of policies counts from the next connection on')
  t.equal(await heard('/caller', silenceMs), '')
  const bad = Array.from({ length: 400 }, (_, n) => ({ ...rule('deny', `/bad/${n}`), ...n % 4 === 0 ? {} : {
    from: [{ ids: [`spiffe://lab.test/bad/${n}`, 'spiffe://lab.test/other/*'], notIds: ['spiffe://lab.test/bad/x'] }, { notIds: ['spiffe://lab.test/*'] }],
    to: [{ ports: [9000, 9001] }, { notPorts: [1, 2] }]
  } }))
  rig.policies.set(policies(...bad, rule('allow', '/guest'), rule('allow', '/bad/*')))
  await rig.settled()
  t.equal(await heard('/guest'), 'b ', 'several hundred rules')
  t.equal(await heard('/bad/399', silenceMs), '')
  t.equal(await heard('/bad/400'), 'b ')
  t.ok(rig.envoyRuns)
})

/** What a silent program in a pod hears within so long of having connected. */
async function heardIn (rig: MeshRig, pod: string, ms = patienceMs): Promise<string> {
  const program = `const socket = require('node:net').connect(9000, '${b}', () => setTimeout(() => socket.destroy(), ${ms}).unref())
    socket.on('data', text => { process.stdout.write(text); socket.destroy() }).on('error', () => {})`
  return await readText(rig.network.spawnIn(pod, process.execPath, '-e', program).stdout!)
}

for (const plaintext of [undefined, 'permit'] as const) {
  void t.test(`nor by tunnel${plaintext === undefined ? '' : ', nor in the clear'}, where policies refuse`, { skip }, async t => {
    await using rig = await MeshRig.open()
    const policies = (...rules: object[]) => ({ kind: 'set', set: readPolicies([{ name: 'test', text: JSON.stringify([
      { apiVersion: 'assay/v1', kind: 'Settings', trustDomain: 'lab.test', defaultAction: 'deny' },
      { apiVersion: 'assay/v1', kind: 'Policy', name: 'b', workloads: { ids: [id('/b')] }, rules }
    ]) }]) } as const)
    const allow = (name: string) => ({ name, action: 'allow', from: [{ ids: [`spiffe://lab.test/${name}`] }], to: [{ ports: [9000] }] })
    rig.policies.set(policies(allow('a')))
    for (const [name, address] of [['a', '10.77.0.2'], ['b', b], ['c', '10.77.0.5']] as const) await rig.pod(name, address)
    if (plaintext !== undefined) rig.network.addPod('x', '10.77.0.6', { redirected: false })
    await rig.startEnvoy()
    await rig.serving('a', 'b', 'c')
    rig.directory.set({
      services: [{
        name: 'bytes', address: '10.99.0.1', spiffeIds: [id('/b')], ports: [{ port: 90, targetPort: 9000, protocol: 'tcp' }], plaintext
      }],
      endpoints: rig.localEndpoints()
    })
    await rig.settled()
    t.equal(await heardIn(rig, 'a'), 'b ')
    t.equal(await heardIn(rig, 'c', silenceMs), '')
    if (plaintext !== undefined) t.equal(await heardIn(rig, 'x', silenceMs), '')
    rig.policies.set(policies(allow('c')))
    await rig.settled()
    t.equal(await heardIn(rig, 'c'), 'b ')
    t.equal(await heardIn(rig, 'a', silenceMs), '')
    t.ok(rig.envoyRuns)
  })
}
