import { execFile } from 'node:child_process'
import { once } from 'node:events'
import { readlink } from 'node:fs/promises'
import { createServer } from 'node:net'
import { promisify } from 'node:util'
import { ManagedProcess } from './managed-process.ts'

/** A machine, or what stands for one. */
export interface DemoNode {
  readonly name: string
  /** Where the other node reaches it. */
  readonly address: string
  /** Where only its own processes do. */
  readonly loopback: string
  /** Words that make a command run on this node. */
  readonly enter: readonly string[]
  /** A free port; the preferred one where nobody else can have it. */
  port (host: string, preferred: number): Promise<number>
}

export interface DemoNetwork extends AsyncDisposable {
  readonly kind: 'namespaces' | 'loopback'
  /** What the nodes are, and why not namespaces if they could not be made. */
  readonly description: string
  readonly nodes: readonly [DemoNode, DemoNode]
}

const run = promisify(execFile)
// TEST-NET-1 of RFC 5737: no real network has it.
const addresses = ['192.0.2.1', '192.0.2.2'] as const

/** Two network namespaces when that is allowed and wanted; else two loopback addresses. @param folder for the log */
export async function openNetwork ({ namespaces, folder }: { namespaces: boolean, folder: string }): Promise<DemoNetwork> {
  if (!namespaces) return loopback('')
  if (process.getuid?.() !== 0) return loopback(' (namespaces need root)')
  try {
    return await openNamespaces(folder)
  } catch (error) {
    return loopback(` (namespaces could not be made: ${(error as Error).message.trim().split('\n').at(-1)})`)
  }
}

function loopback (reason: string): DemoNetwork {
  const node = (name: string, address: string): DemoNode => ({ name, address, loopback: address, enter: [], port: freePort })
  return {
    kind: 'loopback',
    description: `two loopback addresses${reason}: any process here reaches both nodes' plain-HTTP ports`,
    nodes: [node('node-1', '127.0.0.1'), node('node-2', '127.0.0.2')],
    async [Symbol.asyncDispose] () {}
  }
}

/**
 * Namespaces without names, each held by one process: when those end, also by `kill -9` of this one, the kernel removes
 * namespaces and link, so that nothing can be left behind.
 */
async function openNamespaces (folder: string): Promise<DemoNetwork> {
  await using scope = new AsyncDisposableStack()
  const holders = []
  for (const name of ['node-1', 'node-2']) {
    holders.push(scope.use(new ManagedProcess({
      name: `namespace of ${name}`, command: ['unshare', '--net', '--', 'cat'], logFile: `${folder}/network.log`
    })))
  }
  await Promise.all(holders.map(separated))
  const [first, second] = holders.map(({ pid }) => pid) as [number, number]
  await run('ip', ['link', 'add', 'to-node-2', 'netns', `${first}`, 'type', 'veth', 'peer', 'name', 'to-node-1', 'netns', `${second}`])
  const node = async (name: string, pid: number, address: string, link: string): Promise<DemoNode> => {
    const enter = ['nsenter', `--net=/proc/${pid}/ns/net`, '--']
    const ip = (...words: string[]) => run(enter[0] as string, [...enter.slice(1), 'ip', ...words])
    await ip('address', 'add', `${address}/24`, 'dev', link)
    await ip('link', 'set', 'lo', 'up')
    await ip('link', 'set', link, 'up')
    return { name, address, loopback: '127.0.0.1', enter, port: async (_host, preferred) => preferred }
  }
  const nodes = [
    await node('node-1', first, addresses[0], 'to-node-2'), await node('node-2', second, addresses[1], 'to-node-1')
  ] as const
  const owned = scope.move()
  return {
    kind: 'namespaces',
    description: `two network namespaces, ${addresses.join(' and ')}, joined by a virtual link`,
    nodes,
    [Symbol.asyncDispose]: () => owned.disposeAsync()
  }
}

/** Until the holder has left this process's namespace. */
async function separated (holder: ManagedProcess): Promise<void> {
  const ours = await readlink('/proc/self/ns/net')
  const end = performance.now() + 5_000
  for (;;) {
    if (!holder.running) throw new Error(holder.tail.at(-1) ?? `${holder.name} ended`)
    if (await readlink(`/proc/${holder.pid}/ns/net`).catch(() => ours) !== ours) return
    if (performance.now() > end) throw new Error(`${holder.name} was not made within 5 s`)
    await new Promise(resolve => setTimeout(resolve, 5))
  }
}

async function freePort (host: string): Promise<number> {
  const server = createServer().listen(0, host)
  await once(server, 'listening')
  const { port } = server.address() as { port: number }
  server.close()
  await once(server, 'close')
  return port
}
