import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, mkdirSync, openSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { isIPv6 } from 'node:net'
import { dirname, join } from 'node:path'

/** Why network namespaces cannot be made here; `false` when they can. */
export function noNamespaces (): string | false {
  if (process.getuid?.() !== 0) return 'needs root to make network namespaces'
  try {
    execFileSync('unshare', ['--net', 'ip', 'link', 'show', 'lo'], { stdio: 'ignore' })
    return false
  } catch {
    return 'needs unshare, ip (iproute2) and a kernel that makes network namespaces'
  }
}

/** Why pods cannot have addresses of IPv6 here; `false` when they can. */
export function noIpv6 (): string | false {
  const none = noNamespaces()
  if (none !== false) return none
  try {
    const words = 'ip link set lo up && ip address add fd77::9/128 dev lo nodad && ip6tables -w -t nat -S'
    execFileSync('unshare', ['--net', 'sh', '-c', words], { stdio: 'ignore' })
    return false
  } catch {
    return 'needs a kernel that has IPv6 and translates its addresses, and ip6tables'
  }
}

/**
 * A node's network: a namespace in which the node's proxy runs, with a bridge on which pods hang, each a namespace of its own under
 * `folder`. Nothing of the machine's own network is touched, and all of it is gone afterwards.
 */
export class PodNetwork implements AsyncDisposable {
  /** Holds the pods' namespaces by name. */
  readonly folder: string
  readonly node: string
  readonly #root: string
  readonly #mounted = new Set<string>()
  /** Pod → its end on the bridge. */
  #made = 0
  readonly #links = new Map<string, string>()
  readonly #children = new Set<ChildProcess>()

  private constructor (root: string) {
    this.#root = root
    this.folder = join(root, 'pods')
    this.node = join(root, 'node')
  }

  static async open (): Promise<PodNetwork> {
    const network = new PodNetwork(await mkdtemp(join(tmpdir(), 'pods-')))
    mkdirSync(network.folder)
    network.#make(network.node)
    network.inNode('ip', 'link', 'add', 'br0', 'type', 'bridge')
    network.inNode('ip', 'addr', 'add', '10.77.0.1/24', 'dev', 'br0')
    network.inNode('ip', 'link', 'set', 'br0', 'up')
    if (noIpv6() === false) network.inNode('ip', 'address', 'add', 'fd77::1/64', 'dev', 'br0', 'nodad')
    return network
  }

  path (pod: string): string { return join(this.folder, pod) }
  /** Its end on the bridge; of each pod that is made, another. */
  link (pod: string): string { return this.#links.get(pod) ?? '' }

  /**
   * A namespace with addresses on the bridge; what it sends is redirected as the mesh wants it, unless told otherwise.
   * @param name may have a folder in it, for the pods of one of several nodes
   * @param address of 10.77.0.0/24 or of fd77::/64, or one of each
   */
  addPod (name: string, address: string | readonly string[], { redirected = true } = {}): void {
    const addresses = [address].flat()
    mkdirSync(dirname(this.path(name)), { recursive: true })
    this.#make(this.path(name))
    const link = `ve${this.#made++}`
    this.#links.set(name, link)
    this.inNode('ip', 'link', 'add', link, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', this.path(name))
    this.inNode('ip', 'link', 'set', link, 'master', 'br0', 'up')
    for (const one of addresses) {
      // Without a search for who has it already, an address is there at once.
      const how = isIPv6(one) ? [`${one}/64`, 'nodad'] : [`${one}/24`]
      this.inPod(name, 'ip', 'address', 'add', ...how, 'dev', 'eth0')
    }
    this.inPod(name, 'ip', 'link', 'set', 'eth0', 'up')
    for (const one of addresses) this.inPod(name, 'ip', 'route', 'add', 'default', 'via', isIPv6(one) ? 'fd77::1' : '10.77.0.1')
    if (redirected) for (const family of new Set(addresses.map(isIPv6))) this.redirect(name, family ? 6 : 4)
  }

  redirect (name: string, family: 4 | 6 = 4): void {
    const [tool, loopback] = family === 4 ? ['iptables', '127.0.0.0/8'] as const : ['ip6tables', '::1/128'] as const
    const nat = (...words: string[]) => this.inPod(name, tool, '-w', '-t', 'nat', '-A', ...words)
    // As `assay redirect` does: what the proxy itself called from a port is not what a workload calls from it next.
    this.inPod(name, tool, '-w', '-t', 'raw', '-A', 'OUTPUT', '-m', 'mark', '--mark', '1337', '-j', 'CT', '--zone-orig', '1337')
    nat('OUTPUT', '-m', 'mark', '--mark', '1337', '-j', 'RETURN')
    nat('OUTPUT', '-p', 'tcp', '!', '-d', loopback, '-j', 'REDIRECT', '--to-ports', '15001')
    nat('PREROUTING', '-p', 'tcp', '-m', 'multiport', '!', '--dports', '15001,15006,15008', '-j', 'REDIRECT', '--to-ports', '15006')
  }

  /** As a runtime removes one: its link and its name go. The namespace itself lives on while anything is in it. */
  removePod (name: string): void {
    this.inNode('ip', 'link', 'del', this.#links.get(name) as string)
    // The next at its address has another link, and nobody here says so to the neighbours as a runtime would.
    this.inNode('ip', 'neigh', 'flush', 'dev', 'br0')
    this.#remove(this.path(name))
  }

  inNode (...words: string[]): string { return runIn(this.node, words) }
  inPod (name: string, ...words: string[]): string { return runIn(this.path(name), words) }

  /** A child in a pod's namespace, or in the node's for `undefined`; killed at the end. */
  spawnIn (name: string | undefined, ...words: string[]): ChildProcess {
    const path = name === undefined ? this.node : this.path(name)
    const child = spawn('nsenter', [`--net=${path}`, ...words], { stdio: ['pipe', 'pipe', 'inherit'] })
    this.#children.add(child)
    return child
  }

  async [Symbol.asyncDispose] (): Promise<void> {
    for (const child of this.#children) {
      if (child.exitCode !== null || child.signalCode !== null) continue
      child.kill('SIGKILL')
      await once(child, 'exit')
    }
    for (const path of this.#mounted) this.#remove(path)
    await rm(this.#root, { recursive: true, force: true })
  }

  #make (path: string): void {
    closeSync(openSync(path, 'w'))
    execFileSync('unshare', [`--net=${path}`, 'ip', 'link', 'set', 'lo', 'up'])
    this.#mounted.add(path)
  }

  #remove (path: string): void {
    // As `ip netns delete` does: whoever holds it open does not hinder.
    execFileSync('umount', ['--lazy', path])
    execFileSync('rm', [path])
    this.#mounted.delete(path)
  }
}

function runIn (namespace: string, words: readonly string[]): string {
  return execFileSync('nsenter', [`--net=${namespace}`, ...words], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] })
}
