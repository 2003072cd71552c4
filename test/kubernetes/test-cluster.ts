import { type ChildProcessByStdio, spawn } from 'node:child_process'
import { randomBytes, randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import type { Readable, Writable } from 'node:stream'
import { z } from 'zod'
import { agentCatalog } from '../../src/agent/agent-catalog.ts'
import { pluginSchemas } from '../../src/plugins/catalog.ts'
import type { Bundle } from '../../src/spiffe/bundle.ts'
import { parseTrustDomain } from '../../src/spiffe/trust-domain.ts'
import { verifyX509Svid } from '../../src/x509/verify-svid.ts'
import { startTestAgent, type TestAgent } from '../fakes/agent.ts'
import { ContainerGroup } from '../fakes/container-group.ts'
import { KubeApi } from '../fakes/kube-api.ts'
import { FakeKubelet, kubeletPod } from '../fakes/kubelet.ts'
import type { TestServer } from '../fakes/server.ts'

/** A cluster: an API server, and one kubelet for all its nodes, whose agents attest by tokens of their pods. */
export class TestCluster implements AsyncDisposable {
  readonly name: string
  readonly api: KubeApi
  readonly #folder: string
  readonly #kubelet: FakeKubelet
  readonly #scope: AsyncDisposableStack

  private constructor (name: string, folder: string, api: KubeApi, kubelet: FakeKubelet, scope: AsyncDisposableStack) {
    this.name = name
    this.api = api
    this.#folder = folder
    this.#kubelet = kubelet
    this.#scope = scope
  }

  static async start (name: string): Promise<TestCluster> {
    await using scope = new AsyncDisposableStack()
    const folder = await mkdtemp(join(tmpdir(), `cluster-${name}-`))
    scope.defer(() => rm(folder, { recursive: true, force: true }))
    const api = scope.use(await KubeApi.start(folder))
    const kubelet = scope.use(await FakeKubelet.start())
    return new TestCluster(name, folder, api, kubelet, scope.move())
  }

  /** What the server's `k8s_psat` is told of it. */
  get trusted (): object { return { service_account_allow_list: ['spire:spire-agent'], kube_config_file: this.api.kubeconfig } }

  /** A node with an agent. @param as the cluster that it says it is of; this one unless given */
  async startNode (server: TestServer, node: string, as = this.name): Promise<{ readonly agent: TestAgent, readonly uid: string }> {
    const uid = this.api.nodes.get(node)?.uid ?? this.api.addNode(node)
    const tokenPath = join(this.#folder, `token-${node}`)
    await writeFile(tokenPath, this.api.tokenOf(this.api.addPod({ name: `agent-${node}`, node })))
    const plugins = z.strictObject(pluginSchemas(agentCatalog)).parse({
      NodeAttestor: { k8s_psat: { plugin_data: { cluster: as, token_path: tokenPath } } },
      WorkloadAttestor: {
        unix: {},
        k8s: { plugin_data: { kubelet_read_only_port: this.#kubelet.port, poll_retry_interval: '20ms', max_poll_attempts: 1000 } }
      }
    })
    const agent = await startTestAgent(server, { config: { plugins, joinToken: undefined } })
    this.#scope.use(agent)
    return { agent, uid }
  }

  /** A pod of service account `web` in namespace `shop`, with one container. */
  async startPod (name: string, agent: TestAgent): Promise<ClusterPod> {
    const [uid, id] = [randomUUID(), randomBytes(32).toString('hex')]
    this.#kubelet.pods = [...this.#kubelet.pods, kubeletPod({ uid, name, containers: [{ name: 'web', id }] })]
    const path = `/kubepods.slice/kubepods-pod${uid.replaceAll('-', '_')}.slice/cri-containerd-${id}.scope`
    return this.#scope.use(new ClusterPod(path, agent.config.socketPath))
  }

  async [Symbol.asyncDispose] (): Promise<void> { await this.#scope.disposeAsync() }
}

/** What a workload of a pod has from its agent; certificates in DER. */
export interface PodIdentity {
  readonly ids: readonly string[]
  readonly chain: readonly Uint8Array[]
  readonly bundle: readonly Uint8Array[]
  /** By trust domain ID. */
  readonly federated: Readonly<Record<string, readonly Uint8Array[]>>
}

type Told = Record<'ids' | 'chain' | 'bundle', string[]> & { readonly federated: Record<string, string[]> }

/** A process in the control group of a container. */
class ClusterPod implements AsyncDisposable {
  readonly #group: ContainerGroup
  readonly #child: ChildProcessByStdio<Writable, Readable, null>
  readonly #lines: AsyncIterator<string>
  readonly #socket: string

  constructor (groupPath: string, socket: string) {
    this.#socket = socket
    this.#group = new ContainerGroup(groupPath)
    this.#child = spawn(process.execPath, [join(import.meta.dirname, 'pod-program.ts')], { stdio: ['pipe', 'pipe', 'inherit'] })
    this.#lines = createInterface({ input: this.#child.stdout })[Symbol.asyncIterator]()
    this.#group.add(this.#child.pid as number)
  }

  /** Once it has this identity. */
  async x509 (id: string): Promise<PodIdentity> {
    const told = await this.#ask({ what: 'x509', id }) as Told
    const decode = (texts: readonly string[]) => texts.map(text => Buffer.from(text, 'base64'))
    return {
      ids: told.ids, chain: decode(told.chain), bundle: decode(told.bundle),
      federated: Object.fromEntries(Object.entries(told.federated).map(([id, texts]) => [id, decode(texts)]))
    }
  }

  async jwt (id: string, audience: string): Promise<string> {
    return (await this.#ask({ what: 'jwt', id, audience }) as { token: string }).token
  }

  /** The ID in a token that its own agent believes. */
  async validate (token: string, audience: string): Promise<string> {
    return (await this.#ask({ what: 'validate', token, audience }) as { spiffeId: string }).spiffeId
  }

  async [Symbol.asyncDispose] (): Promise<void> {
    const exit = once(this.#child, 'exit')
    this.#child.kill('SIGKILL')
    await exit
    this.#group[Symbol.dispose]()
  }

  async #ask (asked: object): Promise<object> {
    this.#child.stdin.write(`${JSON.stringify({ socket: this.#socket, ...asked })}\n`)
    const { value, done } = await this.#lines.next()
    if (done === true) throw new Error('the workload ended')
    const answer = JSON.parse(value) as { error?: string }
    if (answer.error !== undefined) throw new Error(answer.error)
    return answer
  }
}

/** Who shows this chain, judged by the authorities that somebody has of its trust domain. */
export function judge (chain: readonly Uint8Array[], trustDomain: string, authorities: readonly Uint8Array[]): string {
  const bundle: Bundle = {
    trustDomain: parseTrustDomain(trustDomain), jwtAuthorities: [],
    x509Authorities: authorities.map(certificate => ({ certificate, tainted: false }))
  }
  return verifyX509Svid(chain, { bundleOf: domain => domain === bundle.trustDomain ? bundle : undefined, at: new Date() }).id
}
