import { randomBytes, randomUUID } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { callCniPlugin, type PluginAnswer } from '../fakes/cni-plugin.ts'
import { KubeApi } from '../fakes/kube-api.ts'
import { FakeKubelet, kubeletPod } from '../fakes/kubelet.ts'
import type { RunningAgent } from '../fakes/processes.ts'
import { WireCounter } from '../fakes/wire-counter.ts'
import { Nodes, type NodeOptions } from './nodes.ts'

export type NodeName = 'one' | 'two'
export type PodLabels = Readonly<Record<string, string>>

export interface KubePodOptions {
  readonly node: NodeName
  readonly name: string
  readonly address: string
  readonly namespace?: string
  readonly labels?: PodLabels
}

/** One incarnation of a pod: an API object at its node's kubelet, and a network namespace that its runtime made. */
export interface KubePod extends Required<KubePodOptions> {
  readonly uid: string
  /** The runtime's, of its sandbox. */
  readonly id: string
  /** In the network. */
  readonly path: string
  /** Its end on the bridge. */
  readonly link: string
}

/** Two nodes of a cluster: a kubelet each, an API server that knows namespaces, agents that enrol pods; a runtime that calls the plugin. */
export class KubeNodes implements AsyncDisposable {
  readonly nodes: Nodes
  readonly api: KubeApi
  readonly kubelets: Readonly<Record<NodeName, FakeKubelet>>
  readonly wire: WireCounter
  readonly #scope: AsyncDisposableStack
  readonly #pods: Readonly<Record<NodeName, Map<string, KubePod>>> = { one: new Map(), two: new Map() }
  /** Of pods whose API object says something else than when they were made. */
  readonly #labels = new Map<string, PodLabels>()

  private constructor (
    parts: Pick<KubeNodes, 'nodes' | 'api' | 'kubelets'>, scope: AsyncDisposableStack
  ) {
    this.nodes = parts.nodes
    this.api = parts.api
    this.kubelets = parts.kubelets
    this.wire = new WireCounter(parts.nodes.network)
    this.#scope = scope
  }

  static async open (): Promise<KubeNodes> {
    await using scope = new AsyncDisposableStack()
    const folder = await mkdtemp(join(tmpdir(), 'kube-nodes-'))
    scope.defer(() => rm(folder, { recursive: true, force: true }))
    const nodes = scope.use(await Nodes.open())
    const { node } = nodes.network
    const api = scope.use(await KubeApi.start(folder, node))
    const [one, two] = [scope.use(await FakeKubelet.start(undefined, node)), scope.use(await FakeKubelet.start(undefined, node))]
    return new KubeNodes({ nodes, api, kubelets: { one, two } }, scope.move())
  }

  /** @param kubernetes keys of `mesh.kubernetes` */
  async startNode (
    name: NodeName, { mesh, kubernetes, ...options }: NodeOptions & { readonly kubernetes?: object } = {}
  ): Promise<RunningAgent> {
    return await this.nodes.startNode(name, {
      ...options,
      mesh: {
        netns_dir: '', unknown_destinations: 'refuse',
        kubernetes: { kube_config_file: this.api.kubeconfig, interval: '200ms', add_timeout: '60s', ...kubernetes },
        ...mesh
      },
      plugins: {
        WorkloadAttestor: {
          unix: {},
          k8s: { plugin_data: { kubelet_read_only_port: this.kubelets[name].port, poll_retry_interval: '50ms' } }
        }
      }
    })
  }

  /** An API object and an empty network namespace; no agent has been told yet. */
  createPod ({ node, name, address, namespace = 'shop', labels = {} }: KubePodOptions): KubePod {
    const { network } = this.nodes
    const uid = randomUUID()
    const path = `${node}/${name}-${uid.slice(0, 8)}`
    network.addPod(path, address, { redirected: false })
    const pod = { node, name, address, namespace, labels, uid, id: randomBytes(32).toString('hex'), path, link: network.link(path) }
    this.wire.follow(path)
    this.#pods[node].set(uid, pod)
    this.#publish(node)
    return pod
  }

  label (pod: KubePod, labels: PodLabels): void {
    this.#labels.set(pod.uid, labels)
    this.#publish(pod.node)
  }

  /** As the runtime calls the plugin for one pod. @param config more keys of the plugin's own */
  async cni (command: 'ADD' | 'DEL' | 'CHECK' | 'GC', pod: KubePod, config: object = {}): Promise<PluginAnswer> {
    return await callCniPlugin({
      CNI_COMMAND: command, CNI_CONTAINERID: pod.id, CNI_NETNS: this.nodes.network.path(pod.path), CNI_IFNAME: 'eth0',
      CNI_ARGS: `IgnoreUnknown=1;K8S_POD_NAMESPACE=${pod.namespace};K8S_POD_NAME=${pod.name};` +
        `K8S_POD_INFRA_CONTAINER_ID=${pod.id};K8S_POD_UID=${pod.uid}`
    }, {
      cniVersion: '1.1.0', name: 'pods', type: 'assay-cni', socketPath: this.nodes.xdsSocket(pod.node),
      prevResult: { cniVersion: '1.1.0', ips: [{ address: `${pod.address}/24` }], interfaces: [] }, timeoutSeconds: 90, ...config
    })
  }

  /** As a kubelet has it done again and again. */
  async addUntilServed (pod: KubePod): Promise<void> {
    const end = Date.now() + 120_000
    for (let last: PluginAnswer | undefined; ;) {
      last = await this.cni('ADD', pod)
      if (last.code === 0) return
      if (Date.now() > end) throw new Error(`pod ${pod.name} does not start: ${JSON.stringify(last.answer)}`)
    }
  }

  /** Its processes have ended. The runtime tells the plugin, then takes the namespace away; the API object goes last. */
  async deletePod (pod: KubePod): Promise<PluginAnswer> {
    const removed = await this.cni('DEL', pod)
    this.nodes.network.removePod(pod.path)
    this.#pods[pod.node].delete(pod.uid)
    this.#labels.delete(pod.uid)
    this.#publish(pod.node)
    return removed
  }

  async [Symbol.asyncDispose] (): Promise<void> { await this.#scope.disposeAsync() }

  #publish (node: NodeName): void {
    this.kubelets[node].pods = [...this.#pods[node].values()].map(({ uid, namespace, name, labels }) =>
      kubeletPod({ uid, namespace, name, labels: this.#labels.get(uid) ?? labels, containers: [{ name: 'main' }] }))
  }
}
