import { execFile } from 'node:child_process'
import { mkdir, symlink } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { defaultMeshSettings, hbonePort } from '../../../mesh/mesh-state.ts'
import { applyRedirect } from '../../../redirect/redirect.ts'
import { holdNamespace } from '../namespace-holder.ts'
import { lastLine, type DemoNetwork, type DemoNode } from '../network.ts'
import type { Workspace } from '../workspace.ts'

/** What stands for a container: a network namespace with an address of its own. */
export interface Pod {
  readonly name: string
  readonly node: DemoNode
  readonly address: string
  /** Words that make a command run in it. */
  readonly enter: readonly string[]
}

const run = promisify(execFile)

/** @returns why there can be no pods with a proxy on these nodes, where there can be none */
export async function openPods (
  network: DemoNetwork, workspace: Workspace, signal: AbortSignal
): Promise<{ readonly pods: PodNetwork } | { readonly missing: string }> {
  if (network.missing !== undefined) return { missing: network.missing }
  try {
    await tryRedirect(workspace, signal)
  } catch (error) {
    signal.throwIfAborted()
    return { missing: `what pods send cannot be redirected to a proxy: ${lastLine(error)}` }
  }
  try {
    return { pods: await PodNetwork.open(network, workspace) }
  } catch (error) {
    return { missing: `the nodes cannot have pods: ${lastLine(error)}` }
  }
}

/** The same rules as the agents will write, in a namespace that is gone afterwards. */
async function tryRedirect (workspace: Workspace, signal: AbortSignal): Promise<void> {
  await using scope = new AsyncDisposableStack()
  const { path } = await holdNamespace('no pod', workspace.logs, scope)
  const { outboundPort, inboundPort } = defaultMeshSettings
  await applyRedirect({
    scope: { kind: 'netns', path }, outboundPort, inboundPort, tunnelPort: hbonePort, excludePorts: [], excludeCidrs: []
  }, signal)
}

/** Behind each node a bridge, and behind that pods; the nodes route between them. */
export class PodNetwork implements AsyncDisposable {
  readonly #workspace: Workspace
  readonly #nodes: DemoNetwork['nodes']
  readonly #scope = new AsyncDisposableStack()
  #made = 0

  private constructor (workspace: Workspace, nodes: DemoNetwork['nodes']) {
    this.#workspace = workspace
    this.#nodes = nodes
  }

  static async open ({ nodes }: DemoNetwork, workspace: Workspace): Promise<PodNetwork> {
    const network = new PodNetwork(workspace, nodes)
    for (const node of nodes) {
      const ip = (...words: string[]) => inside(node.enter, 'ip', ...words)
      await ip('link', 'add', 'pods', 'type', 'bridge')
      await ip('address', 'add', `${network.#subnet(node)}.1/24`, 'dev', 'pods')
      await ip('link', 'set', 'pods', 'up')
      for (const other of nodes) if (other !== node) await ip('route', 'add', `${network.#subnet(other)}.0/24`, 'via', other.address)
      // Where the kernel's settings are not to be written, they may be right nevertheless.
      await inside(node.enter, 'sh', '-c', 'f=/proc/sys/net/ipv4/ip_forward; [ "$(cat $f)" = 1 ] || echo 1 > $f')
      await mkdir(network.folderOf(node), { recursive: true, mode: 0o700 })
    }
    return network
  }

  /** Names of the node's pods; the agent watches it as it would `/var/run/netns`. */
  folderOf (node: DemoNode): string { return join(this.#workspace.folder, node.name, 'pods') }

  async add (name: string, node: DemoNode): Promise<Pod> {
    const { holder, path, enter } = await holdNamespace(`pod ${name}`, this.#workspace.logs, this.#scope)
    const link = `pod${++this.#made}`
    const subnet = this.#subnet(node)
    const address = `${subnet}.${10 + this.#made}`
    await inside(node.enter, 'ip', 'link', 'add', link, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', `${holder.pid}`)
    await inside(node.enter, 'ip', 'link', 'set', link, 'master', 'pods', 'up')
    for (const words of [
      ['link', 'set', 'lo', 'up'], ['address', 'add', `${address}/24`, 'dev', 'eth0'], ['link', 'set', 'eth0', 'up'],
      ['route', 'add', 'default', 'via', `${subnet}.1`]
    ]) await inside(enter, 'ip', ...words)
    // A link and no mount: there is nothing that could outlive the namespace.
    await symlink(path, join(this.folderOf(node), name))
    return { name, node, address, enter }
  }

  [Symbol.asyncDispose] (): Promise<void> { return this.#scope.disposeAsync() }

  #subnet (node: DemoNode): string { return `10.77.${this.#nodes.indexOf(node) + 1}` }
}

async function inside ([program = '', ...words]: readonly string[], ...command: string[]): Promise<void> {
  await run(program, [...words, ...command])
}
