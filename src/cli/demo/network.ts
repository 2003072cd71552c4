import { execFile } from 'node:child_process'
import { once } from 'node:events'
import { createServer } from 'node:net'
import { promisify } from 'node:util'
import { holdNamespace, type HeldNamespace } from './namespace-holder.ts'

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
  /** What the nodes are. */
  readonly description: string
  /** Why they are no namespaces, where they are none. */
  readonly missing: string | undefined
  readonly nodes: readonly [DemoNode, DemoNode]
}

const run = promisify(execFile)
// TEST-NET-1 of RFC 5737: no real network has it.
const addresses = ['192.0.2.1', '192.0.2.2'] as const

/** Two network namespaces when that is allowed and wanted; else two loopback addresses. @param folder for the log */
export async function openNetwork ({ namespaces, folder }: { namespaces: boolean, folder: string }): Promise<DemoNetwork> {
  if (!namespaces) return loopback('namespaces were not wanted')
  if (process.getuid?.() !== 0) return loopback('it takes root to make network namespaces')
  try {
    return await openNamespaces(folder)
  } catch (error) {
    return loopback(`network namespaces could not be made: ${lastLine(error)}`)
  }
}

function loopback (missing: string): DemoNetwork {
  const node = (name: string, address: string): DemoNode => ({ name, address, loopback: address, enter: [], port: freePort })
  return {
    kind: 'loopback',
    description: 'two loopback addresses: any process here reaches both nodes\' plain-HTTP ports',
    missing,
    nodes: [node('node-1', '127.0.0.1'), node('node-2', '127.0.0.2')],
    async [Symbol.asyncDispose] () {}
  }
}

/** When their holders end, also by `kill -9` of this process, the kernel removes namespaces and link. */
async function openNamespaces (folder: string): Promise<DemoNetwork> {
  await using scope = new AsyncDisposableStack()
  const [first, second] = await Promise.all([holdNamespace('node-1', folder, scope), holdNamespace('node-2', folder, scope)])
  await run('ip', [
    'link', 'add', 'to-node-2', 'netns', `${first.holder.pid}`, 'type', 'veth', 'peer', 'name', 'to-node-1', 'netns', `${second.holder.pid}`
  ])
  const node = async (name: string, { enter }: HeldNamespace, address: string, link: string): Promise<DemoNode> => {
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
    missing: undefined,
    nodes,
    [Symbol.asyncDispose]: () => owned.disposeAsync()
  }
}

/** What the program that failed said last. */
export function lastLine (error: unknown): string {
  return (error as Error).message.trim().split('\n').at(-1) ?? ''
}

async function freePort (host: string): Promise<number> {
  const server = createServer().listen(0, host)
  await once(server, 'listening')
  const { port } = server.address() as { port: number }
  server.close()
  await once(server, 'close')
  return port
}
