import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { attestWorkload } from '../../src/attestation/workload/attest-workload.ts'
import { createK8sAttestor } from '../../src/attestation/workload/k8s/k8s-attestor.ts'
import { k8sPlugin } from '../../src/attestation/workload/k8s/k8s-plugin.ts'
import { Kubelet } from '../../src/attestation/workload/k8s/kubelet.ts'
import { KubeletPods } from '../../src/attestation/workload/k8s/kubelet-pods.ts'
import { parsePodList } from '../../src/attestation/workload/k8s/pod.ts'
import { systemClock } from '../../src/runtime/clock.ts'
import { silentLogger } from '../../src/runtime/logger.ts'
import { formatSelector } from '../../src/spiffe/selector.ts'
import { ManualClock, settle } from '../fakes/clock.ts'
import { FakeKubelet, kubeletPod } from '../fakes/kubelet.ts'
import { createWebCa } from '../federation/web-ca.ts'

const uid = '2c48913c-b29f-11e7-9350-020968147796'
const id = '9bca8d63d5fa610783847915bcff0ecac1273e5b4bed3f6fa1b07350e0135961'
const sidecar = '09bc3d7ade839efec32b6bec4ec79d099027a668ddba043083ec21d3c3b8f1e6'
const init = '34a2062fd26c805aa8cf814cdfe479322b791f80afb9ea4db02d50375df14b41'
const digest = 'docker.io/library/web@sha256:bf862e5f5eca0a73e7e538224578c5cf867ce2be91b5eaed22afc153c00363eb'
const signal = AbortSignal.timeout(120_000)
const failed = { code: 'workload_attestation_failed' }
const processOf = (pid: number) => ({ pid, uid: 0, gid: 0, check () {} })
const ca = await createWebCa()
const certificate = await ca.certify()

function newFolder (t: Test): string {
  const folder = mkdtempSync(join(tmpdir(), 'assay-k8s-'))
  t.teardown(() => rmSync(folder, { recursive: true }))
  return folder
}

/** A `/proc` in which processes are in the groups that the test says. */
function fakeProc (t: Test, groups: Readonly<Record<number, string>>): string {
  const proc = newFolder(t)
  for (const [pid, path] of Object.entries(groups)) {
    mkdirSync(join(proc, pid))
    writeFileSync(join(proc, pid, 'cgroup'), `0::${path}\n`)
  }
  return proc
}

const pod = kubeletPod({
  uid, name: 'web-1', labels: { app: 'web', tier: '' }, owner: { kind: 'ReplicaSet', name: 'web', uid: 'r-1' },
  containers: [{ name: 'web', id, imageId: digest }, { name: 'proxy', id: sidecar, image: 'proxy:2' }],
  initContainers: [{ name: 'prepare', id: init, image: 'prepare:3' }]
})

/** The attestor over answers that the test gives. */
function attestorOver (
  t: Test, fetch: () => Promise<object[]>,
  { clock = new ManualClock(), podOnly = false, maxPollAttempts = 3, groups = {} }: {
    clock?: ManualClock, podOnly?: boolean, maxPollAttempts?: number, groups?: Record<number, string>
  } = {}
) {
  const pods = new KubeletPods({ fetch: async () => parsePodList(JSON.stringify({ items: await fetch() })), intervalMs: 500, clock })
  t.teardown(() => pods[Symbol.dispose]())
  const proc = fakeProc(t, { 1: '/system.slice/sshd.service', 2: `/kubepods/pod${uid}/${id}`, 3: `/kubepods/pod${uid}/${init}`, ...groups })
  const attestor = createK8sAttestor({
    pods, maxPollAttempts, pollIntervalMs: 500, podOnly, logPlaces: false, proc, clock, log: silentLogger
  })
  return { clock, attestor, attest: async (pid: number) => (await attestor.attest(processOf(pid), signal)).map(formatSelector) }
}

const ofPod = [
  'k8s:sa:web', 'k8s:ns:shop', 'k8s:node-name:worker-1', `k8s:pod-uid:${uid}`, 'k8s:pod-name:web-1', 'k8s:pod-image-count:2',
  'k8s:pod-init-image-count:1', `k8s:pod-image:${digest}`, 'k8s:pod-image:docker.io/library/web:1', 'k8s:pod-image:proxy:2',
  'k8s:pod-init-image:prepare:3', 'k8s:pod-label:app:web', 'k8s:pod-label:tier:', 'k8s:pod-owner:ReplicaSet:web',
  'k8s:pod-owner-uid:ReplicaSet:r-1'
]

void t.test('all that SPIRE tells of a pod and a container', async t => {
  const { attest } = attestorOver(t, async () => [pod])
  t.strictSame(await attest(2), [
    ...ofPod, 'k8s:container-name:web', `k8s:container-image:${digest}`, 'k8s:container-image:docker.io/library/web:1'
  ])
  t.strictSame(await attest(3), [...ofPod, 'k8s:container-name:prepare', 'k8s:container-image:prepare:3'], 'of an init container too')
  t.strictSame(await attest(1), [], 'a process of no container has none')
  await t.rejects(attest(99), failed, 'one whose groups cannot be read is not such a process')
  const { attest: attestPod } = attestorOver(t, async () => [pod], { podOnly: true })
  t.strictSame(await attestPod(2), ofPod)
})

void t.test('whose pod the kubelet has forgotten becomes no other pod by groups that it made', async t => {
  const [goneUid, goneId] = ['6b1f0ac7-0a5e-4b3c-9d44-1f2e3d4c5b6a', 'e'.repeat(64)]
  const forged = `/kubepods/pod${goneUid}/${goneId}/kubepods/pod${uid}/${id}`
  for (const podOnly of [false, true]) {
    const { attest } = attestorOver(t, async () => [pod], { maxPollAttempts: 1, podOnly, groups: { 4: forged } })
    await t.rejects(attest(4), { ...failed, message: /does not tell of container eeeeeeeeeeee of pod 6b1f0ac7/ })
    t.ok((await attest(2)).includes('k8s:pod-name:web-1'), 'whose groups these are is who it was')
  }
  const processes = async (groups: Record<number, string>) => {
    const { attestor } = attestorOver(t, async () => [pod], { groups })
    await attestor.nodePods?.list(signal)
    return attestor.nodePods?.processes(new Set([uid])).get(uid) ?? []
  }
  t.notOk((await processes({ [process.pid]: forged })).includes(process.pid), 'nor does its network become that pod\'s')
  t.ok((await processes({ [process.pid]: `/kubepods/pod${uid}/${id}` })).includes(process.pid), 'as that of a process of the pod is')

  const within = { 2: `/pod${goneUid}/${goneId}/kubepods/pod${uid}/${id}`, 3: `/pod${goneUid}/${goneId}/kubepods/pod${uid}/${init}` }
  const { attest } = attestorOver(t, async () => [pod], { groups: within })
  t.ok((await attest(2)).includes('k8s:pod-name:web-1'), 'on a node that is a container itself all pods are within')
})

void t.test('a slow kubelet never yields a smaller identity', async t => {
  const starting = kubeletPod({ uid, name: 'web-1', containers: [{ name: 'web' }] })
  const started = kubeletPod({ uid, name: 'web-1', containers: [{ name: 'web', id }] })
  let answers: Array<object[] | Error> = [[], [starting], [started]]
  let asked = 0
  const fetch = async () => {
    asked++
    const answer = answers.shift() ?? []
    if (answer instanceof Error) throw answer
    return answer
  }
  const { clock, attest, attestor } = attestorOver(t, fetch)
  const settledIn = async (attesting: Promise<unknown>, ms: number) => {
    let over = false
    void attesting.then(() => { over = true }, () => { over = true })
    await clock.advance(ms)
    return over
  }
  let attesting = attest(2)
  t.notOk(await settledIn(attesting, 999), 'neither its pod nor its container is told of')
  t.ok(await settledIn(attesting, 1))
  t.ok((await attesting).includes('k8s:container-name:web'))
  t.equal(asked, 3, 'not asked more often than allowed')

  await clock.advance(500)
  answers = [new Error('busy'), [started]]
  attesting = attest(2)
  t.ok(await settledIn(attesting, 500))
  t.ok((await attesting).includes('k8s:container-name:web'), 'a kubelet that fails once is asked again')

  await clock.advance(500)
  answers = [[], [starting], [starting], [started]]
  attesting = attest(2)
  t.ok(await settledIn(attesting, 1000))
  await t.rejects(attesting, { ...failed, message: /does not tell of container 9bca8d63d5fa of pod 2c48913c.*, after 3 attempts/ })
  answers = [new Error('a'), new Error('b'), new Error('c')]
  await clock.advance(500)
  attesting = attest(2)
  t.ok(await settledIn(attesting, 1000))
  await t.rejects(attesting, { message: 'c' })
  t.equal(attestor.patienceMs, 3 * 500 + 10_000, 'and the agent waits as long as that takes')

  const { clock: other, attest: attestPod } = attestorOver(t, async () => [starting], { podOnly: true })
  t.ok((await attestPod(2)).includes('k8s:pod-name:web-1'), 'nobody waits for a container that is not asked for')
  t.equal(other.sleeping, 0)
})

void t.test('the agent waits for a patient attestor', async t => {
  const clock = new ManualClock()
  const { attestor } = attestorOver(t, () => new Promise(() => {}), { clock, maxPollAttempts: 60 })
  let outcome: unknown
  const attesting = attestWorkload(processOf(2), { attestors: [attestor], clock, log: silentLogger }, signal)
  void attesting.catch((error: unknown) => { outcome = error })
  await clock.advance(39_999)
  t.equal(outcome, undefined)
  await clock.advance(1)
  t.match(outcome, { message: /no answer within 40 s/ })
})

void t.test('the kubelet is asked for all together', async t => {
  let asked = 0
  const gates: Array<() => void> = []
  const { clock, attest } = attestorOver(t, async () => {
    asked++
    await new Promise<void>(resolve => gates.push(resolve))
    return [pod]
  })
  const many = Array.from({ length: 100 }, (_, index) => attest(index % 2 + 2))
  while (gates.length === 0) await settle()
  gates.shift()?.()
  t.ok((await Promise.all(many)).every(found => found.includes('k8s:pod-name:web-1')))
  t.equal(asked, 1)
  await attest(2)
  t.equal(asked, 1, 'and what it said is used as long as it may not be asked again')
  await clock.advance(500)
  const next = attest(2)
  while (gates.length === 0) await settle()
  await clock.advance(5_000)
  gates.shift()?.()
  t.ok((await next).includes('k8s:pod-name:web-1'), 'an answer that took longer than that counts')
  t.equal(asked, 2)
})

void t.test('who makes groups below its own is looked for in a list that has its pod', async t => {
  const victim = { uid: 'a2830d0d-b0f0-4ff0-81b5-0ee4e299cf80', id: sidecar }
  const other = kubeletPod({ uid: victim.uid, name: 'victim', containers: [{ name: 'c', id: victim.id }] })
  const lists = [[other], [other, pod]]
  const { clock, attest } = attestorOver(t, async () => lists.shift() ?? [], {
    groups: { 4: `/kubepods/pod${victim.uid}/${victim.id}`, 5: `/kubepods/pod${uid}/${id}/pod${victim.uid}/${victim.id}` }
  })
  t.ok((await attest(4)).includes('k8s:pod-name:victim'))
  await clock.advance(100)
  const attesting = attest(5)
  while (clock.sleeping === 0) await settle()
  await clock.advance(400)
  const found = await attesting
  t.ok(found.includes('k8s:pod-name:web-1') && !found.includes('k8s:pod-name:victim'), 'the list of before did not have it')
})

void t.test('the kubelet\'s port', async t => {
  const folder = newFolder(t)
  const file = (name: string, content: string) => {
    writeFileSync(join(folder, name), content)
    return join(folder, name)
  }
  await using kubelet = await FakeKubelet.start({ ...certificate, clientCa: ca.root })
  kubelet.pods = [pod]
  const caPath = file('ca.pem', ca.root)
  const tokenPath = file('token', 'kubelet-token\n')
  const config = {
    port: kubelet.port, secure: true, nodeName: undefined as string | undefined, caPath: caPath as string | undefined,
    proof: { kind: 'token', path: tokenPath } as const, reloadIntervalMs: 60_000
  }
  const ask = async (changed: Partial<ConstructorParameters<typeof Kubelet>[0]>, clock = systemClock) => {
    await using client = new Kubelet({ ...config, ...changed }, clock)
    return [...(await client.pods(signal)).keys()]
  }
  t.strictSame(await ask({}), [uid], 'a token; the certificate\'s name does not count over loopback')
  t.strictSame(await ask({ nodeName: 'localhost' }), [uid], 'of a named node it does')
  const mine = await ca.certify()
  const shown = { kind: 'certificate', certificatePath: file('cert.pem', mine.cert), keyPath: file('key.pem', mine.key) } as const
  kubelet.token = 'another'
  t.strictSame(await ask({ proof: shown }), [uid], 'a client certificate')
  await t.rejects(ask({}), { ...failed, message: /status 401: allow the agent's service account/ })
  await t.rejects(ask({ proof: { kind: 'none' } }), { ...failed, message: /status 401/ })
  kubelet.token = 'kubelet-token'
  const foreign = file('foreign.pem', (await createWebCa()).root)
  await t.rejects(ask({ caPath: foreign }), { ...failed, message: /cannot be asked/ }, 'a kubelet that nobody vouches for')
  t.strictSame(await ask({ caPath: undefined }), [uid], 'skip_kubelet_verification')
  await using elsewhere = await FakeKubelet.start(await ca.certify({ dns: ['other'], ips: [] }))
  elsewhere.pods = [pod]
  const named = ask({ port: elsewhere.port, nodeName: 'localhost' })
  await t.rejects(named, { ...failed, message: /cannot be asked/ }, 'a certificate of another node')
  t.strictSame(await ask({ port: elsewhere.port }), [uid])
  await t.rejects(ask({ caPath: join(folder, 'absent') }), { ...failed, message: /absent cannot be read/ })
  await using open = await FakeKubelet.start()
  open.pods = [pod]
  t.strictSame(await ask({ port: open.port, secure: false, caPath: join(folder, 'absent') }), [uid], 'the read-only port needs nothing')

  const malformed = ['nonsense', '[]', '{"items":[{"metadata":{}}]}', '{"items":7}']
  for (const [status, body] of [[500, 'broken'] as const, ...malformed.map(body => [200, body] as const)]) {
    kubelet.answer = { status, body }
    await t.rejects(ask({}), failed, body)
  }
  kubelet.answer = { status: 200, body: '{"kind":"PodList","items":null}' }
  t.strictSame(await ask({}), [], 'a node without pods')
})

void t.test('tokens and authorities of the kubelet are read again', async t => {
  const folder = newFolder(t)
  const [caPath, tokenPath] = [join(folder, 'ca.pem'), join(folder, 'token')]
  writeFileSync(caPath, ca.root)
  writeFileSync(tokenPath, 'one')
  await using kubelet = await FakeKubelet.start(certificate)
  kubelet.token = 'one'
  const clock = new ManualClock()
  await using client = new Kubelet({
    port: kubelet.port, secure: true, nodeName: undefined, caPath, proof: { kind: 'token', path: tokenPath }, reloadIntervalMs: 60_000
  }, clock)
  await client.pods(signal)
  writeFileSync(tokenPath, 'two')
  await client.pods(signal)
  kubelet.token = 'two'
  await t.rejects(client.pods(signal), failed)
  await client.pods(signal)
  t.equal(kubelet.refused, 1, 'at once after a refusal')
  writeFileSync(caPath, (await createWebCa()).root)
  await client.pods(signal)
  await clock.advance(60_000)
  await t.rejects(client.pods(signal), { ...failed, message: /cannot be asked/ }, 'and after reload_interval')
})

void t.test('pods by name and by UID', async t => {
  const lists = [[pod]]
  const ended = kubeletPod({ uid: sidecar.slice(0, 8), name: 'done', containers: [], phase: 'Succeeded' })
  const { clock, attestor } = attestorOver(t, async () => lists.at(-1) ?? [])
  const find = async (reference: Parameters<NonNullable<typeof attestor.pods>['find']>[0]) => {
    const finding = attestor.pods?.find(reference, signal)
    await clock.advance(500)
    const found = await finding
    return found === undefined ? undefined : { uid: found.uid, selectors: found.selectors.map(formatSelector) }
  }
  const expected = { uid, selectors: ofPod }
  t.strictSame(await find({ namespace: 'shop', name: 'web-1' }), expected)
  t.strictSame(await find({ uid: uid.toUpperCase() }), expected)
  t.strictSame(await find({ namespace: 'shop', name: 'web-1', uid }), expected)
  t.equal(await find({ namespace: 'shop', name: 'web-1', uid: 'other' }), undefined, 'BRK-12 both must agree')
  t.equal(await find({ namespace: 'other', name: 'web-1' }), undefined)
  t.equal(await find({ uid: 'done' }), undefined)
  lists.push([ended])
  t.equal(await find({ namespace: 'shop', name: 'done' }), undefined, 'one that has ended')
})

void t.test('configuration', async t => {
  const parse = (raw: unknown) => k8sPlugin.config.parse(raw)
  const mounted = '/var/run/secrets/kubernetes.io/serviceaccount'
  t.strictSame(parse({}), {
    kubelet: {
      port: 10_250, secure: true, caPath: `${mounted}/ca.crt`, proof: { kind: 'token', path: `${mounted}/token` }, reloadIntervalMs: 60_000
    },
    nodeName: undefined, nodeNameVariable: 'MY_NODE_NAME', maxPollAttempts: 60, pollIntervalMs: 500, podOnly: false, logPlaces: false,
    brokerAccess: undefined
  })
  t.match(parse({ kubelet_read_only_port: 10_255 }), { kubelet: { port: 10_255, secure: false } })
  const unverified = parse({ skip_kubelet_verification: true, token_path: '' })
  t.match(unverified, { kubelet: { caPath: undefined, proof: { path: `${mounted}/token` } } })
  t.match(parse({ use_anonymous_authentication: true, use_new_container_locator: true }), { kubelet: { proof: { kind: 'none' } } })
  t.match(parse({ certificate_path: 'c', private_key_path: 'k', node_name_env: 'NODE' }), {
    kubelet: { proof: { kind: 'certificate', certificatePath: 'c', keyPath: 'k' } }, nodeNameVariable: 'NODE'
  })
  t.match(parse({ sigstore: null, enable_namespace_labels: false }), { maxPollAttempts: 60 }, 'what is off may be said')
  const broker = { id: 'spiffe://example.org/broker' }
  t.match(parse({ experimental: { broker: { access_policy: 'enforced', brokers: [{ ...broker, pod_reference_scope: 'agent_node' }] } } }), {
    brokerAccess: { accessPolicy: 'enforced', brokers: new Set([broker.id]), kubeconfig: undefined }
  })
  const refused: Array<[object, RegExp]> = [
    [{ sigstore: {} }, /signatures of images are not looked at/], [{ disable_kubelet_client: true }, /not offered/],
    [{ enable_namespace_labels: true }, /not offered/], [{ experimental: { broker: {} } }, /must be enforced or permissive/],
    [{ experimental: { api_server: {} } }, /api_server/],
    [{ experimental: { broker: { access_policy: 'enforced', brokers: [] } } }, /at least one broker/],
    [{ experimental: { broker: { access_policy: 'enforced', brokers: [broker, broker] } } }, /twice/],
    [{ experimental: { broker: { access_policy: 'enforced', brokers: [{ ...broker, pod_reference_scope: 'cluster' }] } } }, /agent_node/],
    [{ use_new_container_locator: false }, /legacy/], [{ kubelet_read_only_port: 1, kubelet_secure_port: 2 }, /not secured/],
    [{ certificate_path: 'c' }, /belong together/], [{ token_path: 't', certificate_path: 'c', private_key_path: 'k' }, /keep one/],
    [{ token_path: 't', use_anonymous_authentication: true }, /must not be true/], [{ max_poll_attempts: 0 }, /1 to 1000/],
    [{ skip_kubelet_verification: true, kubelet_ca_path: 'c' }, /must not be true/], [{ poll_retry_interval: 5 }, /duration/],
    [{ port: 1 }, /port/]
  ]
  for (const [raw, message] of refused) t.throws(() => parse(raw), { message }, JSON.stringify(raw))

  await using kubelet = await FakeKubelet.start()
  process.env['ASSAY_TEST_NODE'] = 'worker-1'
  const config = parse({ kubelet_read_only_port: kubelet.port, node_name_env: 'ASSAY_TEST_NODE' })
  await using attestor = await k8sPlugin.start(config, { clock: systemClock, log: silentLogger }, signal)
  t.equal(attestor.name, 'k8s')
  t.equal(await attestor.pods?.find({ uid: 'none' }, signal), undefined)
  t.equal(kubelet.asked, 2, 'a pod that is missing is looked for again')
})
