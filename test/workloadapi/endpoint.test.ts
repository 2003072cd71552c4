import { readdirSync, readFileSync, readlinkSync } from 'node:fs'
import t from 'tap'
import { startAgent, startServer } from '../fakes/processes.ts'

/** `st` of a listening socket in /proc/net/tcp, and its flag in /proc/net/unix. */
const tcpListens = '0A'
const unixListens = '00010000'

t.test('a real agent serves its own host alone (Workload Endpoint §2, §3)', async t => {
  await using server = await startServer()
  await using agent = await startAgent({ server })
  const { tcp, unix } = listenersOf(agent.pid)
  t.same(tcp, [], 'WLE-01, WLE-03 it listens on no network')
  t.equal(unix.length, 2, 'WLE-01, WLE-03 but on two Unix sockets: of the Workload API, and of the hand-over to a successor')
  // Bound under other names beside those they are then given.
  t.ok(unix.every(path => path.startsWith(`${agent.folder}/`)), 'in the folder of its configuration')
  t.ok(listenersOf(server.pid).tcp.length > 0, 'a network listener would have been seen')
})

/** Where a process listens: addresses as /proc has them, and paths. */
function listenersOf (pid: number): { readonly tcp: readonly string[], readonly unix: readonly string[] } {
  const links = readdirSync(`/proc/${pid}/fd`).map(fd => linkOf(`/proc/${pid}/fd/${fd}`))
  const inodes = new Set(links.flatMap(link => /^socket:\[(\d+)\]$/.exec(link)?.[1] ?? []))
  const rows = (name: string) => {
    const [, ...lines] = readFileSync(`/proc/${pid}/net/${name}`, 'utf8').trimEnd().split('\n')
    return lines.map(line => line.trim().split(/\s+/))
  }
  return {
    tcp: ['tcp', 'tcp6'].flatMap(rows).filter(row => row[3] === tcpListens && inodes.has(row[9] ?? '')).map(row => row[1] ?? ''),
    unix: rows('unix').filter(row => row[3] === unixListens && inodes.has(row[6] ?? '')).map(row => row[7] ?? '')
  }
}

/** A descriptor may close meanwhile. */
function linkOf (path: string): string {
  try {
    return readlinkSync(path)
  } catch {
    return ''
  }
}
