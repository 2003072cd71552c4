import { execFile, execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { inNamespace } from '../../src/runtime/network-namespace.ts'
import { eventually } from '../fakes/eventually.ts'
import { FakeKubelet } from '../fakes/kubelet.ts'
import { PodNetwork } from '../fakes/pods.ts'
import { createWebCa } from '../federation/web-ca.ts'
import type { RealCluster } from '../kubernetes/real-cluster.ts'
import type { KubeObject } from '../../scripts/render-deploy.ts'
import type { PodSpec } from './objects.ts'
import type { Images } from './rendered-images.ts'
import { RenderedContainer } from './rendered-container.ts'
import { makeVolume, type VolumeSpec, type VolumesOf } from './rendered-volumes.ts'

/** Where the cluster's API server and this node are in its network. */
const [apiAddress, nodeAddress]: readonly [string, string] = ['10.0.0.1', '10.77.0.1']
const run = promisify(execFile)
const patienceMs = 300_000
const networkName = 'pods'

/** Of a container, as manifests have it. */
interface Container {
  readonly name: string
  readonly image: string
  readonly command?: readonly string[]
  readonly args?: readonly string[]
  readonly env?: ReadonlyArray<{ readonly name: string, readonly value?: string }>
  readonly securityContext?: { readonly capabilities?: { readonly add?: readonly string[] } }
  readonly volumeMounts?: ReadonlyArray<{ readonly name: string, readonly mountPath: string, readonly readOnly?: boolean }>
  readonly readinessProbe?: { readonly httpGet: { readonly path: string, readonly port: string } }
  readonly ports?: ReadonlyArray<{ readonly name: string, readonly containerPort: number }>
}

interface Sandbox {
  readonly name: string
  readonly namespace: string
  readonly uid: string
  readonly sandbox: string
  readonly address: string
}

export interface RunningPod {
  readonly name: string
  readonly address: string
  readonly containers: ReadonlyMap<string, RenderedContainer>
  /** What the plugins of the network said of it. */
  readonly plugins: readonly string[]
}

export interface RenderedNodeOptions {
  readonly cluster: RealCluster
  readonly name: string
  readonly images: Images
  readonly folder: string
}

/**
 * A node of a real cluster that runs what the API server has, in place of a kubelet and a container runtime: each pod in a network
 * namespace, each container in a root of its own, with the mounts, the user and the capabilities of its manifest. The kubelet's list of
 * pods is what runs.
 */
export class RenderedNode implements AsyncDisposable {
  readonly network: PodNetwork
  readonly #options: RenderedNodeOptions
  readonly #kubelet: FakeKubelet
  readonly #ca: string
  readonly #sandboxes: Set<string>
  readonly #scope: AsyncDisposableStack
  readonly #hosts = new Map([['kubernetes.default.svc', apiAddress]])
  #made = 10

  private constructor (
    options: RenderedNodeOptions, parts: Pick<RenderedNode, 'network'> & {
      readonly kubelet: FakeKubelet, readonly sandboxes: Set<string>, readonly ca: string
    },
    scope: AsyncDisposableStack
  ) {
    this.#options = options
    this.network = parts.network
    this.#kubelet = parts.kubelet
    this.#ca = parts.ca
    this.#sandboxes = parts.sandboxes
    this.#scope = scope
    this.#hosts.set(options.name, nodeAddress)
  }

  static async open (options: RenderedNodeOptions): Promise<RenderedNode> {
    await using scope = new AsyncDisposableStack()
    const network = scope.use(await PodNetwork.open())
    // What appears in it later is to appear in containers, too.
    execFileSync('mount', ['--bind', network.folder, network.folder])
    const sandboxes = new Set<string>()
    scope.defer(() => {
      for (const sandbox of sandboxes) network.removePod(sandbox)
      execFileSync('umount', ['--lazy', network.folder])
    })
    execFileSync('mount', ['--make-shared', network.folder])
    network.inNode('ip', 'address', 'add', `${apiAddress}/32`, 'dev', 'br0')
    const { server, authority } = apiOf(options.cluster)
    const relay = createServer(socket => {
      const onward = connect({ host: '127.0.0.1', port: Number(server.port) })
      for (const [one, other] of [[socket, onward], [onward, socket]] as const) {
        one.on('error', () => other.destroy()).on('close', () => other.destroy()).pipe(other)
      }
    })
    inNamespace(network.node, () => relay.listen(443))
    await once(relay, 'listening')
    scope.defer(() => { relay.close() })
    const webCa = await createWebCa()
    const kubelet = scope.use(await FakeKubelet.start(await webCa.certify({ dns: [options.name] }), network.node, 10_250))
    mkdirSync(join(options.folder, 'node/etc/cni/net.d'), { recursive: true })
    writeFileSync(join(options.folder, `node/etc/cni/net.d/10-${networkName}.conflist`), JSON.stringify({
      cniVersion: '1.0.0', name: networkName, plugins: [{ type: 'ptp' }]
    }))
    return new RenderedNode(options, { network, kubelet, sandboxes, ca: `${authority}\n${webCa.root}\n` }, scope.move())
  }

  /** A path of the node's own. */
  path (path: string): string {
    return path === '/var/run/netns' ? this.network.folder : join(this.#options.folder, 'node', path)
  }

  /** A name of the cluster's DNS, for pods that start later. */
  name (name: string, address: string): void { this.#hosts.set(name, address) }

  /** Runs a pod that the API server has, from the sandbox to its readiness. */
  async run ({ metadata, spec }: KubeObject): Promise<RunningPod> {
    const { cluster, folder, name: node } = this.#options
    const { name, namespace = '', uid } = metadata as KubeObject['metadata'] & { readonly uid: string }
    const pod = spec as PodSpec & { readonly containers: readonly Container[] }
    const { runAsUser: user = 0, runAsGroup: group = user, fsGroup = group } =
      pod.securityContext as unknown as Record<string, number | undefined>
    const address = `10.77.0.${this.#made++}`
    const sandbox = `cni-${uid}`
    this.network.addPod(sandbox, address, { redirected: false })
    this.#sandboxes.add(sandbox)
    const ids = new Map(pod.containers.map(container => [container.name, randomBytes(32).toString('hex')]))
    await this.#tell({ metadata, spec }, address, new Map())
    const plugins = await this.#callPlugins({ name, namespace, uid, sandbox, address })

    const of: VolumesOf = {
      cluster, patienceMs, folder: join(folder, 'pods', uid), onNode: path => this.path(path),
      pod: { name, namespace, uid, account: pod.serviceAccountName, fsGroup }
    }
    // As a controller of the cluster makes it in each namespace.
    await cluster.ask('PATCH', `/api/v1/namespaces/${namespace}/configmaps/kube-root-ca.crt?fieldManager=controller`, {
      apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'kube-root-ca.crt', namespace }, data: { 'ca.crt': this.#ca }
    })
    const volumes = new Map<string, string>()
    for (const volume of (pod.volumes ?? []) as readonly VolumeSpec[]) volumes.set(volume.name, await makeVolume(volume, of))
    mkdirSync(of.folder, { recursive: true })
    const hosts = join(of.folder, 'hosts')
    writeFileSync(hosts, ['127.0.0.1 localhost', ...[...this.#hosts].map(([name, address]) => `${address} ${name}`), ''].join('\n'))
    const account = [...volumes].find(([name]) => name.startsWith('kube-api-access-'))?.[1]
    if (account !== undefined && name.startsWith('assay-agent')) this.#kubelet.token = readFileSync(join(account, 'token'), 'utf8')

    const containers = new Map<string, RenderedContainer>()
    await this.#tell({ metadata, spec }, address, ids)
    for (const container of pod.containers) {
      const environment = this.#environmentOf(container, node)
      const expand = (word: string) => word.replaceAll(/\$\((\w+)\)/g, (_, name: string) => environment[name] ?? '')
      containers.set(container.name, this.#scope.use(new RenderedContainer({
        root: this.#rootOf(container), environment, user, group, netns: this.network.path(sandbox),
        words: [...container.command ?? ['/usr/local/bin/assay'], ...container.args ?? []].map(expand),
        capabilities: container.securityContext?.capabilities?.add ?? [],
        controlGroup: `/kubepods/pod${uid}/${ids.get(container.name)}`,
        mounts: [
          { from: hosts, to: '/etc/hosts', readOnly: true },
          ...(container.volumeMounts ?? []).map(({ name, mountPath, readOnly = false }) => ({
            from: volumes.get(name) ?? '', to: mountPath.replace(/^\/var\/run\//, '/run/'), readOnly
          }))
        ]
      })))
    }
    const running = { name, address, containers, plugins }
    for (const container of pod.containers) await this.#ready(container, running)
    return running
  }

  async [Symbol.asyncDispose] (): Promise<void> { await this.#scope.disposeAsync() }

  #rootOf ({ image }: Container): string {
    const name = image.split('/').at(-1)?.split(':')[0] ?? ''
    const { images } = this.#options
    if (!Object.hasOwn(images, name)) throw new Error(`there is no image ${image} here`)
    return images[name as keyof Images]
  }

  #environmentOf ({ env = [] }: Container, node: string): Readonly<Record<string, string>> {
    return {
      PATH: '/usr/local/bin:/usr/bin:/usr/sbin', NODE_ENV: 'production',
      KUBERNETES_SERVICE_HOST: apiAddress, KUBERNETES_SERVICE_PORT: '443',
      // The one field that manifests here ask for is the node's name.
      ...Object.fromEntries(env.map(({ name, value }) => [name, value ?? node]))
    }
  }

  /** The kubelet's list, and the status in the API. @param ids of containers that run */
  async #tell (
    { metadata, spec }: Pick<KubeObject, 'metadata'> & { readonly spec?: unknown }, address: string, ids: ReadonlyMap<string, string>
  ): Promise<void> {
    const { containers } = spec as { containers: readonly Container[] }
    const now = new Date().toISOString().replace(/\.\d+Z$/, 'Z')
    const status = {
      phase: ids.size === 0 ? 'Pending' : 'Running', hostIP: nodeAddress, podIP: address,
      containerStatuses: containers.map(({ name, image }) => ({
        name, image, imageID: '', ready: ids.has(name), started: ids.has(name), restartCount: 0,
        ...ids.has(name) ? { containerID: `containerd://${ids.get(name)}` } : {},
        state: ids.has(name) ? { running: { startedAt: now } } : { waiting: { reason: 'ContainerCreating' } }
      }))
    }
    const { name, namespace } = metadata
    const { uid } = metadata as unknown as { uid: string }
    await this.#options.cluster.ask('PATCH', `/api/v1/namespaces/${namespace}/pods/${name}/status?fieldManager=kubelet&force=true`, {
      apiVersion: 'v1', kind: 'Pod', metadata: { name, namespace }, status
    })
    const others = this.#kubelet.pods.filter(pod => (pod as { metadata: { uid: string } }).metadata.uid !== uid)
    this.#kubelet.pods = [...others, { metadata, spec, status }]
  }

  /** As a runtime calls what the network's list names, until it is content, as a kubelet has it. */
  async #callPlugins (pod: Sandbox): Promise<string[]> {
    const list = JSON.parse(readFileSync(this.path(`/etc/cni/net.d/10-${networkName}.conflist`), 'utf8')) as
      { cniVersion: string, name: string, plugins: Array<{ type: string }> }
    const said: string[] = []
    for (const { type, ...keys } of list.plugins.filter(({ type }) => type !== 'ptp')) {
      const input = {
        cniVersion: list.cniVersion, name: list.name, type, ...keys,
        prevResult: { cniVersion: list.cniVersion, interfaces: [], ips: [{ address: `${pod.address}/24` }] }
      }
      const environment = {
        CNI_COMMAND: 'ADD', CNI_CONTAINERID: pod.uid, CNI_NETNS: `/var/run/netns/${pod.sandbox}`, CNI_IFNAME: 'eth0',
        CNI_PATH: '/opt/cni/bin',
        CNI_ARGS: `IgnoreUnknown=1;K8S_POD_NAMESPACE=${pod.namespace};K8S_POD_NAME=${pod.name};` +
          `K8S_POD_INFRA_CONTAINER_ID=${pod.uid};K8S_POD_UID=${pod.uid}`
      }
      let last = ''
      await eventually(() => `${type} lets ${pod.name} start: ${last}`, async () => {
        const { code, out } = await this.onNode(['/bin/sh', '-c', `exec /opt/cni/bin/${type}`], environment, JSON.stringify(input))
        last = out
        if (code === 0) said.push(`${type}: ${out.trim()}`)
        return code === 0
      }, patienceMs)
    }
    return said
  }

  /** A program of the node's own, which sees the node's folders. */
  async onNode (
    words: readonly string[], environment: Readonly<Record<string, string>>, input: string
  ): Promise<{ readonly code: number, readonly out: string }> {
    const mounts = ['/opt', '/var/lib', '/run'].map(path => `mount --rbind '${this.path(path)}' ${path}`).join(' && ')
    return await new Promise(resolve => {
      const child = execFile('unshare', ['--mount', '--propagation', 'private', 'sh', '-c', `${mounts} && exec "$@"`, 'sh', ...words], {
        env: { PATH: process.env['PATH'], ...environment }
      }, (error, stdout, stderr) => resolve({ code: error === null ? 0 : 1, out: `${stdout}${stderr}` }))
      child.stdin?.end(input)
    })
  }

  async #ready ({ name, readinessProbe, ports = [] }: Container, { address, containers }: RunningPod): Promise<void> {
    const container = containers.get(name)
    if (readinessProbe === undefined) return
    const { path, port } = readinessProbe.httpGet
    const url = `http://${address}:${ports.find(({ name }) => name === port)?.containerPort}${path}`
    await eventually(() => `${name} is ready: ${container?.log.slice(-6_000)}`, async () => {
      if (container?.ended) throw new Error(`${name} ended: ${container.log.slice(-6_000)}`)
      const fetching = `fetch('${url}').then(r => process.exit(r.ok ? 0 : 1), () => process.exit(1))`
      const { NODE_OPTIONS: _, ...env } = process.env
      return await run('nsenter', [`--net=${this.network.node}`, process.execPath, '-e', fetching], { env }).then(() => true, () => false)
    }, patienceMs)
  }
}

function apiOf (cluster: RealCluster): { readonly server: URL, readonly authority: string } {
  const { clusters: [found] } = JSON.parse(readFileSync(cluster.adminKubeconfig, 'utf8')) as {
    clusters: Array<{ cluster: { server: string, 'certificate-authority': string } }>
  }
  const file = found?.cluster['certificate-authority'] ?? ''
  return { server: new URL(found?.cluster.server ?? ''), authority: existsSync(file) ? readFileSync(file, 'utf8') : '' }
}
