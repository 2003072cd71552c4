import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { loadavg, tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { residentMibOf } from '../../bench/measure/process-usage.ts'
import { percentile } from '../../bench/measure/statistics.ts'
import { parseTrustDomain } from '../../src/spiffe/trust-domain.ts'
import { eventually } from '../fakes/eventually.ts'
import { freePort } from '../fakes/free-port.ts'
import { RunningProcess, startServer } from '../fakes/processes.ts'
import { SimulatedAgent } from '../fakes/simulated-agent.ts'
import { Administrator } from '../interop/administrator.ts'
import { kubeApiserverMissing } from './build-kube-apiserver.ts'
import { installCustomResources } from './custom-resources.ts'
import { RealCluster } from './real-cluster.ts'

const skip = kubeApiserverMissing()
const patienceMs = 120_000
const pods = 1_000
const perSecond = 50
/** As many are alive at a time; older ones are deleted as new ones come. */
const alive = 300
/** After the first so many, memory is as large as it should get. */
const warm = 400

void t.test(`${pods} pods come and go, ${perSecond} a second`, { skip }, async t => {
  const scope = new AsyncDisposableStack()
  t.teardown(() => scope.disposeAsync())
  const folder = await mkdtemp(join(tmpdir(), 'assay-churn-'))
  scope.defer(() => rm(folder, { recursive: true, force: true }))
  const kubernetes = scope.use(await RealCluster.start())
  await installCustomResources(kubernetes)
  await kubernetes.addNode('worker-1', {})
  await kubernetes.addAccount('web')
  await kubernetes.ask('POST', '/apis/spire.spiffe.io/v1alpha1/clusterspiffeids', {
    apiVersion: 'spire.spiffe.io/v1alpha1', kind: 'ClusterSPIFFEID', metadata: { name: 'pods' },
    spec: { spiffeIDTemplate: 'spiffe://{{ .TrustDomain }}/pod/{{ .PodMeta.Name }}' }
  })

  const server = scope.use(await startServer())
  const admin = scope.use(new Administrator(server))
  const token = (await admin.agents.createJoinToken({ ttl: 600 })).value
  const agent = await SimulatedAgent.join(token, { addresses: [server.address], trustDomain: parseTrustDomain('example.org') })
  const stop = new AbortController()
  const following = agent.run(stop.signal)
  scope.defer(async () => {
    stop.abort()
    await following
  })
  const config = join(folder, 'controller.json')
  const metricsPort = await freePort()
  await writeFile(config, JSON.stringify({
    trustDomain: 'example.org', clusterName: 'demo', spireServerSocketPath: server.adminSocket, kubeConfigFile: kubernetes.adminKubeconfig,
    metrics: { bindAddress: `127.0.0.1:${metricsPort}` },
    // Of the agent that is there: no kubelet gives tokens to one that attests as the cluster's.
    parentIDTemplate: `spiffe://example.org/spire/agent/join_token/${token}`
  }))
  const controller = new RunningProcess(['controller', 'run', '-config', config])
  scope.defer(() => controller.kill9())
  await controller.logged('controller leads')

  /** Until the agent has an SVID for the pod; it has all of them signed as their entries come. */
  const waiting = new Map<string, () => void>()
  const looking = setInterval(() => {
    if (waiting.size === 0) return
    for (const id of agent.held()) {
      waiting.get(id)?.()
      waiting.delete(id)
    }
  }, 10)
  scope.defer(() => clearInterval(looking))
  const svidFor = (name: string) => new Promise<void>(resolve => waiting.set(`spiffe://example.org/pod/${name}`, resolve))

  const times: number[] = []
  const created: number[] = []
  const memory: { controller: number, server: number }[] = []
  const running: Array<Promise<void>> = []
  const one = async (index: number) => {
    const name = `pod-${index}`
    const begun = performance.now()
    await kubernetes.addPod(name, 'worker-1', 'web')
    created.push(performance.now() - begun)
    await svidFor(name)
    times.push(performance.now() - begun)
    if (times.length % 100 === 0) memory.push({ controller: residentMibOf(controller.pid), server: residentMibOf(server.pid) })
    if (index < alive) return
    await running[index - alive]
    await kubernetes.deletePod(`pod-${index - alive}`)
  }
  const begun = performance.now()
  for (let index = 0; index < pods; index++) {
    const waitMs = begun + index * 1_000 / perSecond - performance.now()
    if (waitMs > 0) await new Promise(resolve => setTimeout(resolve, waitMs))
    running.push(one(index))
  }
  await Promise.all(running)
  const seconds = (performance.now() - begun) / 1_000
  const told = (values: readonly number[]) => [50, 90, 99, 100].map(p => `p${p} ${Math.round(percentile(values, p))} ms`).join(', ')
  t.comment(`pod created to SVID at the agent: ${told(times)}; of that the API server took ${told(created)}; ` +
    `${pods} pods in ${seconds.toFixed(1)} s at load ${loadavg()[0]?.toFixed(1)}`)
  const expose = async () => await fetch(`http://127.0.0.1:${metricsPort}/metrics`).then(response => response.text())
  const exposed = await expose()
  const [, sum, count] = /entry_lag_seconds_sum ([\d.]+)\n[^]*?entry_lag_seconds_count (\d+)/.exec(exposed) ?? []
  // Fewer than pods where a machine was so busy that the Lease was lost meanwhile: a full round made the others.
  t.comment(`the controller says: ${count} entries, ${Math.round(Number(sum) / Number(count) * 1_000)} ms from a pod's event to its entry`)
  const atWarm = memory[warm / 100 - 1]
  const last = memory.at(-1)
  const shown = memory.map(({ controller, server }) => `${Math.round(controller)}/${Math.round(server)}`).join(' ')
  t.comment(`resident, MiB of controller/server after each 100 pods: ${shown}`)

  const looks = Number(/use_looks_total\{outcome="answered"\} (\d+)/.exec(exposed)?.[1])
  const [, useSum, useCount] = /entry_use_lag_seconds_sum ([\d.]+)\n[^]*?entry_use_lag_seconds_count (\d+)/.exec(exposed) ?? []
  t.comment(`${looks} questions told of ${useCount} entries that the agent serves them, ` +
    `${Math.round(Number(useSum) / Number(useCount) * 1_000)} ms after they were written`)

  t.equal(times.length, pods, 'each pod has its SVID')
  t.ok(looks > 0 && looks <= seconds + 5, 'whether entries are in use is asked once a second at most, whatever their number')
  t.ok(Number(count) > 0, 'rounds of its own events made them')
  t.ok((last?.controller ?? 0) - (atWarm?.controller ?? 0) < 96, 'the controller does not grow with the pods that were there')
  t.ok((last?.server ?? 0) - (atWarm?.server ?? 0) < 128, 'nor does the server')
  const left = async () => (await admin.entries.countEntries({})).count
  await eventually('what is gone has no entry', async () => await left() === alive, patienceMs)
  const inUse = async () => Number(/entries_in_use\{kind="ClusterSPIFFEID",name="pods"\} (\d+)/.exec(await expose())?.[1])
  await eventually('each that is left is in use', async () => await inUse() === alive, patienceMs)
  t.equal(await controller.stop(), 0)
})
