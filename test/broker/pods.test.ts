import { spawn } from 'node:child_process'
import { randomBytes, randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { readlinkSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { z } from 'zod'
import { agentCatalog } from '../../src/agent/agent-catalog.ts'
import { pluginSchemas } from '../../src/plugins/catalog.ts'
import { openTlsChannel } from '../../src/rpc/channel.ts'
import { silentLogger } from '../../src/runtime/logger.ts'
import { parseSpiffeId } from '../../src/spiffe/spiffe-id.ts'
import { encodeMessage } from '../../src/wire/encode-message.ts'
import {
  brokerService, KubernetesObjectReference, type KubernetesObjectReferenceInit, WorkloadPIDReference, type WorkloadReferenceInit
} from '../../src/wire/generated/broker.ts'
import { splitCertificates } from '../../src/x509/certificate.ts'
import { startTestAgent } from '../fakes/agent.ts'
import { ContainerGroup, groupsMissing } from '../fakes/container-group.ts'
import { KubeApi } from '../fakes/kube-api.ts'
import { FakeKubelet, kubeletPod } from '../fakes/kubelet.ts'
import { startTestServer } from '../fakes/server.ts'
import { Workload } from '../faults/workload.ts'
import { Administrator } from '../interop/administrator.ts'

const brokerId = 'spiffe://example.org/broker'
const options = { metadata: { 'broker.spiffe.io': 'true' } }
const core = { plural: 'pods', group: 'core' }

function podReference (object: KubernetesObjectReferenceInit): WorkloadReferenceInit {
  const value = encodeMessage(KubernetesObjectReference, { type: core, ...object })
  return { reference: { typeUrl: 'type.googleapis.com/spiffe.broker.KubernetesObjectReference', value } }
}

/** An agent that asks a kubelet, and a broker of its node. */
async function setUp (t: Test, { isReviewed = false } = {}) {
  const scope = new AsyncDisposableStack()
  t.teardown(() => scope.disposeAsync())
  const folder = await mkdtemp(join(tmpdir(), 'broker-'))
  scope.defer(() => rm(folder, { recursive: true, force: true }))
  const kubelet = scope.use(await FakeKubelet.start())
  const api = scope.use(await KubeApi.start(folder))
  const experimental = { broker: { access_policy: 'enforced', brokers: [{ id: brokerId }], kube_config_file: api.kubeconfig } }
  const plugins = z.strictObject(pluginSchemas(agentCatalog)).parse({
    WorkloadAttestor: {
      // Without the digest: to hash this program takes a busy machine longer than a caller is given.
      unix: { plugin_data: { discover_workload_path: true, workload_size_limit: -1 } },
      k8s: {
        plugin_data: {
          kubelet_read_only_port: kubelet.port, poll_retry_interval: '10ms', max_poll_attempts: 1000, ...isReviewed ? { experimental } : {}
        }
      }
    }
  })
  const socketPath = join(folder, 'broker.sock')
  const allowedTypes = new Map([['*', { allowOverTcp: false }]])
  const broker = { socketPath, bind: undefined, brokers: new Map([[parseSpiffeId(brokerId), { allowedTypes }]]) }
  const server = scope.use(await startTestServer())
  const agent = scope.use(await startTestAgent(server, { config: { broker, plugins } }))
  const admin = scope.use(new Administrator({ adminSocket: server.config.socketPath }))
  const parent = `spiffe://example.org${agent.path}`
  const register = (id: string, ...values: string[]) => admin.register(id, parent, {
    selectors: values.map(value => ({ type: value.split(':', 1)[0] as string, value: value.slice(value.indexOf(':') + 1) }))
  })
  await register(brokerId, `unix:path:${readlinkSync('/proc/self/exe')}`)
  const workload = scope.use(new Workload(agent.config.socketPath))
  const svid = (await workload.granted(brokerId, 60_000)).svids[0]
  const identity = { chain: splitCertificates(svid?.x509Svid ?? new Uint8Array()), privateKey: svid?.x509SvidKey ?? new Uint8Array() }
  const channel = scope.use(openTlsChannel({
    address: `unix:${socketPath}`, identity: () => identity, verifyServer: () => {}, log: silentLogger
  }))
  const client = channel.client(brokerService)
  /** The first state with an identity: an entry that was made just now is not known yet. */
  const idsOf = async (reference: WorkloadReferenceInit): Promise<string[]> => {
    for (const end = Date.now() + 60_000; ;) {
      try {
        for await (const { svids } of client.subscribeToX509SVID({ reference }, options)) return svids.map(({ spiffeId }) => spiffeId)
      } catch (error) {
        if ((error as { code?: string }).code !== 'workload_not_entitled' || Date.now() > end) throw error
        await new Promise(resolve => setTimeout(resolve, 20))
      }
    }
  }
  return { kubelet, api, register, client, idsOf }
}

void t.test('references to pods (Broker API §3.1.3)', async t => {
  const { kubelet, register, client, idsOf } = await setUp(t)
  const [uid, otherUid] = [randomUUID(), randomUUID()]
  const web = kubeletPod({ uid, name: 'web-1', labels: { app: 'web' }, containers: [{ name: 'web', id: randomBytes(32).toString('hex') }] })
  kubelet.pods = [web, kubeletPod({ uid: otherUid, name: 'db-1', containers: [] })]
  await register('spiffe://example.org/web', 'k8s:ns:shop', 'k8s:sa:web', 'k8s:pod-label:app:web')
  await register('spiffe://example.org/container', 'k8s:container-name:web')
  const key = { namespace: 'shop', name: 'web-1' }
  const ids = ['spiffe://example.org/web']
  t.same(await idsOf(podReference({ key })), ids, 'by name; what is a container\'s is no pod\'s')
  t.same(await idsOf(podReference({ uid })), ids, 'BRK-12 by UID')
  t.same(await idsOf(podReference({ key, uid })), ids, 'BRK-12 by both')
  const codeOf = async (object: KubernetesObjectReferenceInit) => {
    try {
      for await (const _ of client.subscribeToX509SVID({ reference: podReference(object) }, options)) return 'answered'
      return 'ended'
    } catch (error) {
      return (error as { code?: string }).code
    }
  }
  t.equal(await codeOf({ key, uid: otherUid }), 'workload_not_found', 'BRK-12 that do not agree')
  t.equal(await codeOf({ uid: randomUUID() }), 'workload_not_found', 'BRK-22 a pod of another node')
  t.equal(await codeOf({ uid: otherUid }), 'workload_not_entitled', 'a pod without an identity')
  t.equal(await codeOf({ key: { namespace: '', name: 'web-1' } }), 'workload_reference_invalid', 'BRK-11 pods have namespaces')
  t.equal(await codeOf({ key, type: { plural: 'deployments', group: 'apps' } }), 'workload_reference_invalid', 'objects that are no pods')

  const stream = client.subscribeToX509SVID({ reference: podReference({ key }) }, options)[Symbol.asyncIterator]()
  t.notOk((await stream.next()).done)
  kubelet.pods = []
  await t.rejects(stream.next(), { code: 'workload_not_found' }, 'BRK-25 a pod\'s end ends the stream')
})

void t.test('pods of which the cluster decides', async t => {
  const { kubelet, api, register, client, idsOf } = await setUp(t, { isReviewed: true })
  kubelet.pods = ['web-1', 'db-1'].map(name => kubeletPod({ name, containers: [] }))
  const id = 'spiffe://example.org/shop'
  await register(id, 'k8s:ns:shop')
  const named = (name: string) => podReference({ key: { namespace: 'shop', name } })
  api.allowed.add(`${brokerId} impersonate-via-spire pods shop/web-1`)
  t.same(await idsOf(named('web-1')), [id])
  // The cluster was asked each time until the agent knew the entry.
  api.reviews.splice(0)
  t.same(await idsOf(named('web-1')), [id])
  await t.rejects(idsOf(named('db-1')), { code: 'reference_not_allowed', status: 'PERMISSION_DENIED' }, 'BRK-15 what the cluster denies')
  const token = client.fetchJWTSVID({ reference: named('db-1'), audience: ['a'] }, options)
  await t.rejects(token, { code: 'reference_not_allowed' }, 'by token too')
  const self = {
    reference: {
      typeUrl: 'type.googleapis.com/spiffe.broker.WorkloadPIDReference', value: encodeMessage(WorkloadPIDReference, { pid: process.pid })
    }
  }
  t.same(await idsOf(self), [brokerId], 'what is in no pod is not asked about')
  t.equal(api.reviews.length, 3)
  api.fails = true
  await t.rejects(idsOf(named('web-1')), { code: 'kubernetes_unreachable', status: 'UNAVAILABLE' }, 'nobody to ask is not a yes')
})

void t.test('a process in the control group of a container', { skip: groupsMissing() }, async t => {
  const { kubelet, register, idsOf } = await setUp(t)
  const uid = randomUUID()
  const id = randomBytes(32).toString('hex')
  using group = new ContainerGroup(`/kubepods.slice/kubepods-pod${uid.replaceAll('-', '_')}.slice/cri-containerd-${id}.scope`)
  const child = spawn('sleep', ['600'], { stdio: 'ignore' })
  const exit = once(child, 'exit')
  t.teardown(async () => {
    child.kill('SIGKILL')
    await exit
  })
  group.add(child.pid as number)
  await register('spiffe://example.org/container', `k8s:pod-uid:${uid}`, 'k8s:container-name:web')
  const reference = {
    reference: {
      typeUrl: 'type.googleapis.com/spiffe.broker.WorkloadPIDReference',
      value: encodeMessage(WorkloadPIDReference, { pid: child.pid })
    }
  }
  const finding = idsOf(reference)
  kubelet.pods = [kubeletPod({ uid, name: 'web-1', containers: [{ name: 'web' }] })]
  const seen = kubelet.asked
  while (kubelet.asked < seen + 3) await new Promise(resolve => setTimeout(resolve, 5))
  kubelet.pods = [kubeletPod({ uid, name: 'web-1', containers: [{ name: 'web', id }] })]
  t.same(await finding, ['spiffe://example.org/container'], 'whom the kubelet tells of when it is ready to')
  child.kill('SIGKILL')
  await exit
})
