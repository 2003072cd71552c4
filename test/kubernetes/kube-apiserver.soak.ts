import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { encodePsatPayload } from '../../src/attestation/node/k8s-psat/psat-payload.ts'
import { psatVerifierPlugin } from '../../src/attestation/node/k8s-psat/psat-verifier-plugin.ts'
import { eventually } from '../fakes/eventually.ts'
import { KubeApi } from '../fakes/kube-api.ts'
import { unchallenged } from '../fakes/node-exchange.ts'
import { startAgent, startServer } from '../fakes/processes.ts'
import { Workload } from '../faults/workload.ts'
import { Administrator } from '../interop/administrator.ts'
import { kubeApiserverMissing } from './build-kube-apiserver.ts'
import { documentedObjects } from './documented-rules.ts'
import { RealCluster } from './real-cluster.ts'

const skip = kubeApiserverMissing()
const { signal } = new AbortController()
const patienceMs = 120_000
const clusterAudience = 'https://kubernetes.default.svc'
const account = 'spire-agent'
const cluster = {
  service_account_allow_list: ['spire:spire-agent'], allowed_node_label_keys: ['zone'], allowed_pod_label_keys: ['app']
}

void t.test('nodes of a real API server', { skip }, async t => {
  const scope = new AsyncDisposableStack()
  t.teardown(() => scope.disposeAsync())
  const folder = await mkdtemp(join(tmpdir(), 'assay-psat-'))
  scope.defer(() => rm(folder, { recursive: true, force: true }))
  const begun = performance.now()
  const kubernetes = scope.use(await RealCluster.start())
  t.comment(`the API server serves after ${Math.round(performance.now() - begun)} ms`)
  const nodeUid = await kubernetes.addNode('worker-1', { zone: 'a' })
  for (const name of [account, 'other']) await kubernetes.addAccount(name)
  const podUid = await kubernetes.addPod('agent-1', 'worker-1', account)

  const config = psatVerifierPlugin.config.parse({ clusters: { real: { ...cluster, kube_config_file: kubernetes.kubeconfig } } })
  const verifier = scope.use(await psatVerifierPlugin.start(config, undefined, signal))
  const verify = async (token: string) => await verifier.verify(encodePsatPayload({ cluster: 'real', token }), unchallenged)
  const token = await kubernetes.token({ account, pod: 'agent-1' })
  await t.rejects(verify(token), { code: 'kubernetes_unreachable', message: /status 403/ }, 'a server without rights cannot ask')
  // No more is needed.
  await kubernetes.grantServer(documentedObjects('kubernetes.md', 'spire-server-trust')[0]?.['rules'])
  await eventually('the rights count', () => verify(token).then(() => true, () => false), patienceMs)

  await t.test('tokens', async t => {
    const node = {
      idPath: `real/${nodeUid}`,
      canReattest: true,
      selectors: [
        'cluster:real', 'agent_ns:spire', 'agent_sa:spire-agent', 'agent_pod_name:agent-1', `agent_pod_uid:${podUid}`, 'agent_node_ip:',
        'agent_node_name:worker-1', `agent_node_uid:${nodeUid}`, 'agent_node_label:zone:a', 'agent_pod_label:app:agent'
      ]
    }
    t.strictSame(await verify(token), node, 'with the rights that the documentation names')
    await kubernetes.addPod('other-1', 'worker-1', 'other')
    await kubernetes.addPod('lost-1', 'worker-9', account)
    for (const [what, refused, message] of [
      ['for the API server alone', await kubernetes.token({ account, pod: 'agent-1', audience: clusterAudience }), /audiences/],
      ['that has expired', await kubernetes.expired(token), /expired/],
      ['bound to no pod', await kubernetes.token({ account }), /bound to no pod/],
      ['of another account', await kubernetes.token({ account: 'other', pod: 'other-1' }), /"spire:other" is not an allowed/],
      ['of a pod on a node that is none', await kubernetes.token({ account, pod: 'lost-1' }).catch(() => ''), /node|token/],
      ['with another signature', `${token.slice(0, -10)}${'A'.repeat(10)}`, /not authenticated/]
    ] as const) {
      await t.rejects(verify(refused), { message }, `one ${what}`)
    }
  })

  await t.test('the peer of the fast tests says the same', async t => {
    const peer = scope.use(await KubeApi.start(folder))
    peer.addNode('worker-1')
    const peerPod = peer.addPod({ name: 'agent-2', node: 'worker-1' })
    await kubernetes.addPod('agent-2', 'worker-1', account)
    const tokens = { real: await kubernetes.token({ account, pod: 'agent-2' }), peer: peer.tokenOf(peerPod) }
    const peerVerifier = scope.use(await psatVerifierPlugin.start(
      psatVerifierPlugin.config.parse({ clusters: { real: { ...cluster, kube_config_file: peer.kubeconfig } } }), undefined, signal
    ))
    const said = async (verify: () => Promise<unknown>) => await verify().then(() => 'taken', (error: Error) => error.message)
    const ofPeer = (token: string) => said(() => peerVerifier.verify(encodePsatPayload({ cluster: 'real', token }), unchallenged))
    t.equal(await said(() => verify(tokens.real)), await ofPeer(tokens.peer), 'of a good token')
    await kubernetes.deletePod('agent-2')
    peer.deletePod(peerPod)
    t.not(await said(() => verify(tokens.real)), 'taken', 'a pod that was deleted is refused at once')
    // A reviewed token is remembered for seconds; until then it is the pod that is missed.
    const expected = await ofPeer(tokens.peer)
    t.match(expected, /has been invalidated/)
    await eventually('the token itself is refused', async () => await said(() => verify(tokens.real)) === expected, patienceMs)
  })

  await t.test('server and agent', async t => {
    const real = { ...cluster, kube_config_file: kubernetes.kubeconfig }
    const server = scope.use(await startServer({
      // The machine has no second token: it must renew in half of that, whatever else the machine does.
      config: { agent_ttl: '20s' },
      blocks: { plugins: { NodeAttestor: { k8s_psat: { plugin_data: { clusters: { real } } } } } }
    }))
    const admin = scope.use(new Administrator(server))
    const tokenPath = join(folder, 'token')
    await writeFile(tokenPath, await kubernetes.token({ account, pod: 'agent-1' }))
    const plugins = { NodeAttestor: { k8s_psat: { plugin_data: { cluster: 'real', token_path: tokenPath } } } }
    const agent = scope.use(await startAgent({ server, plugins }))
    const id = `spiffe://example.org/spire/agent/k8s_psat/real/${nodeUid}`
    t.equal(agent.id, id)
    const machine = scope.use(await startAgent({ server }))
    await admin.register('spiffe://example.org/pod', id)
    await admin.register('spiffe://example.org/machine', machine.id)
    for (const [{ socket }, name] of [[agent, 'pod'], [machine, 'machine']] as const) {
      await using workload = new Workload(socket)
      t.same((await workload.granted(`spiffe://example.org/${name}`, patienceMs)).svids.map(({ spiffeId }) => spiffeId), [
        `spiffe://example.org/${name}`
      ], 'machine and node of a cluster in one trust domain')
    }
    const times = () => server.process.lines().filter(({ msg, agent }) => msg === 'agent attested' && agent === id).length
    const before = times()
    await eventually('it attests again', () => times() > before + 1, patienceMs)

    await kubernetes.deletePod('agent-1')
    await eventually('with its pod gone the agent ends', () => !agent.process.running, patienceMs)
    t.match(agent.process.log, /has been invalidated/, 'and says why')
    await t.rejects(startAgent({ server, plugins }), /has been invalidated/, 'another with the same token does not even begin')
  })
})
