import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { createPsatAttestor } from '../../src/attestation/node/k8s-psat/psat-attestor.ts'
import { psatAttestorPlugin } from '../../src/attestation/node/k8s-psat/psat-attestor-plugin.ts'
import { encodePsatPayload } from '../../src/attestation/node/k8s-psat/psat-payload.ts'
import { psatVerifierPlugin } from '../../src/attestation/node/k8s-psat/psat-verifier-plugin.ts'
import { KubeApi } from '../fakes/kube-api.ts'
import { unchallenged } from '../fakes/node-exchange.ts'

const { signal } = new AbortController()
const account = { service_account_allow_list: ['spire:spire-agent'] }

async function folderOf (t: Test): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'assay-psat-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  return folder
}

/** A cluster with one node, an agent's pod on it, and a server's verifier that knows it as `demo`. */
async function setUp (t: Test, cluster: object = {}) {
  const scope = new AsyncDisposableStack()
  t.teardown(() => scope.disposeAsync())
  const api = scope.use(await KubeApi.start(await folderOf(t)))
  const nodeUid = api.addNode('worker-1', { 'topology.kubernetes.io/zone': 'a', secret: 's' })
  const pod = api.addPod({ name: 'spire-agent-x', node: 'worker-1', labels: { app: 'agent', other: 'o' } })
  const config = psatVerifierPlugin.config.parse({ clusters: { demo: { ...account, kube_config_file: api.kubeconfig, ...cluster } } })
  const verifier = scope.use(await psatVerifierPlugin.start(config, undefined, signal))
  const verify = (token: string, cluster = 'demo') => verifier.verify(encodePsatPayload({ cluster, token }), unchallenged)
  return { api, nodeUid, pod, verifier, verify }
}

void t.test('a pod\'s token names its node', async t => {
  const { api, nodeUid, pod, verify } = await setUp(t, {
    allowed_node_label_keys: ['topology.kubernetes.io/zone', 'absent'], allowed_pod_label_keys: ['app']
  })
  const token = api.tokenOf(pod)
  t.strictSame(await verify(token), {
    idPath: `demo/${nodeUid}`,
    canReattest: true,
    selectors: [
      'cluster:demo', 'agent_ns:spire', 'agent_sa:spire-agent', 'agent_pod_name:spire-agent-x', `agent_pod_uid:${pod.uid}`,
      'agent_node_ip:192.0.2.7', 'agent_node_name:worker-1', `agent_node_uid:${nodeUid}`,
      'agent_node_label:topology.kubernetes.io/zone:a', 'agent_pod_label:app:agent'
    ]
  }, 'SPIRE\'s ID and selectors, and of the labels those that are allowed')
  t.strictSame(api.calls, [
    'POST /apis/authentication.k8s.io/v1/tokenreviews', 'GET /api/v1/namespaces/spire/pods/spire-agent-x', 'GET /api/v1/nodes/worker-1'
  ])
  api.deletePod(pod)
  await t.rejects(verify(token), {
    code: 'attestation_refused', message: /cluster "demo": token not authenticated according to TokenReview API: .*has been invalidated/
  }, 'until its pod is deleted')
  const again = api.addPod({ name: pod.name, node: 'worker-1' })
  await t.rejects(verify(token), { code: 'attestation_refused' }, 'also where another pod has its name')
  t.match(await verify(api.tokenOf(again)), { idPath: `demo/${nodeUid}` })
})

void t.test('whose token is refused', async t => {
  const { api, pod, verify, verifier } = await setUp(t)
  const refused = (message: RegExp) => ({ code: 'attestation_refused', message })
  await t.rejects(verify(api.tokenOf(pod, 'https://kubernetes.default.svc')), refused(/audiences/), 'one for the API server itself')
  await t.rejects(verify('no-such-token'), refused(/not authenticated/))
  await t.rejects(verify(api.tokenOf(pod), 'other'), refused(/not configured for cluster "other"/))
  await t.rejects(verify(api.tokenWithoutPod('spire:spire-agent')), refused(/bound to no pod/), 'one that anybody may carry away')
  const stranger = api.addPod({ name: 'web', namespace: 'shop', account: 'default', node: 'worker-1' })
  await t.rejects(verify(api.tokenOf(stranger)), refused(/"shop:default" is not an allowed service account/))
  const lost = api.addPod({ name: 'lost', node: 'worker-9' })
  await t.rejects(verify(api.tokenOf(lost)), refused(/node worker-9 of the pod has gone/))
  const pending = api.addPod({ name: 'pending', node: '' })
  await t.rejects(verify(api.tokenOf(pending)), refused(/is on no node/))

  const key = (name: string) => `authentication.kubernetes.io/${name}`
  const extra = { [key('pod-name')]: [pod.name], [key('pod-uid')]: [pod.uid] }
  const user = { username: 'system:serviceaccount:spire:spire-agent', extra }
  const good = { authenticated: true, audiences: ['spire-server'], user }
  const goodBut = (changed: object) => ({ ...good, user: { ...user, extra: { ...extra, ...changed } } })
  api.review = good
  t.match(await verify('x'), { canReattest: true }, 'clusters before 1.30 name no node')
  for (const [what, review, message] of [
    ['a reviewer that knows nothing of audiences', { ...good, audiences: undefined }, /none of the audiences/],
    ['an audience of somebody else', { ...good, audiences: ['vault'] }, /none of the audiences/],
    ['a user of another kind', { ...good, user: { ...user, username: 'system:node:worker-1' } }, /not a service account/],
    ['two pods', goodBut({ [key('pod-uid')]: [pod.uid, 'b'] }), /no pod/],
    ['another pod of that name', goodBut({ [key('pod-uid')]: ['b'] }), /has gone/],
    ['another node', goodBut({ [key('node-name')]: ['worker-2'] }), /made for node worker-2, and its pod is on worker-1/]
  ] as const) {
    api.review = review
    await t.rejects(verify('x'), refused(message), what)
  }
  const malformed = [
    '', '{', '[]', '{"cluster":"demo"}', '{"token":"x"}', '{"cluster":1,"token":"x"}', `{"cluster":"${'x'.repeat(70_000)}"}`
  ]
  for (const payload of malformed) {
    await t.rejects(verifier.verify(Buffer.from(payload), unchallenged), { code: 'attestation_malformed' }, payload.slice(0, 30))
  }
})

void t.test('a cluster that cannot be asked is no refusal', async t => {
  const { api, pod, verify } = await setUp(t)
  const token = api.tokenOf(pod)
  const unreachable = { code: 'kubernetes_unreachable' }
  await writeFile(join(api.kubeconfig, '../right'), 'stolen')
  const unauthorized = { ...unreachable, message: /cluster "demo": .*status 401: Unauthorized/ }
  await t.rejects(verify(token), unauthorized, 'rights are read anew each time')
  const told = await verify(token).then(() => 'taken', (error: Error) => error.message)
  t.notMatch(told, new RegExp(`taken|stolen|${token}`), 'secrets are not told')
  await api[Symbol.asyncDispose]()
  await t.rejects(verify(token), unreachable)
  await rm(api.kubeconfig)
  await t.rejects(verify(token), { ...unreachable, message: /cannot read .*kubeconfig: ENOENT/ })
})

void t.test('agents that are named by their pod', async t => {
  const { api, pod, verify } = await setUp(t, { use_pod_uid_for_agent_id: true })
  t.match(await verify(api.tokenOf(pod)), { idPath: `demo/pod/${pod.uid}` })
})

void t.test('the agent reads its token anew for each attestation', async t => {
  const tokenPath = join(await folderOf(t), 'token')
  const attestor = createPsatAttestor({ cluster: 'demo', tokenPath })
  const shown = async () => {
    const { value } = await attestor.attest(signal).next(new Uint8Array())
    return JSON.parse(Buffer.from(value as Uint8Array).toString('utf8')) as unknown
  }
  await t.rejects(shown(), { code: 'file_unusable' })
  await writeFile(tokenPath, 'one\n')
  t.strictSame(await shown(), { cluster: 'demo', token: 'one' })
  await writeFile(tokenPath, 'two')
  t.strictSame(await shown(), { cluster: 'demo', token: 'two' })
  await writeFile(tokenPath, ' \n')
  await t.rejects(shown(), { code: 'file_unusable' })
  await writeFile(tokenPath, 'three')
  const attestation = attestor.attest(signal)
  await attestation.next(new Uint8Array())
  await t.rejects(attestation.next(new Uint8Array([1])), { code: 'attestation_malformed' }, 'and answers no challenge')
})

void t.test('configuration', t => {
  const ofServer = (raw: unknown) => psatVerifierPlugin.config.parse(raw)
  const listed = ofServer({ clusters: [{ a: account }, { b: { ...account, audience: ['x'] } }] })
  const expected = { clusters: { a: { audiences: ['spire-server'], kubeconfig: undefined }, b: { audiences: ['x'] } } }
  t.match(listed, expected, 'also SPIRE\'s JSON form')
  for (const raw of [
    {}, { clusters: {} }, { clusters: { a: {} } }, { clusters: { a: { service_account_allow_list: [] } } },
    { clusters: { a: { service_account_allow_list: ['spire-agent'] } } }, { clusters: { 'a/b': account } }, { clusters: { '..': account } },
    { clusters: { a: { ...account, audience: [] } } }, { clusters: { a: { ...account, audiences: ['x'] } } }
  ]) t.throws(() => ofServer(raw), JSON.stringify(raw))
  t.strictSame(psatAttestorPlugin.config.parse({ cluster: 'a' }), { cluster: 'a', tokenPath: '/var/run/secrets/tokens/spire-agent' })
  for (const raw of [{}, { cluster: '' }, { cluster: 'a', token_path: '' }]) t.throws(() => psatAttestorPlugin.config.parse(raw))
  t.end()
})
