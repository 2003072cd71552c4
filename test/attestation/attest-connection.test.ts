import { once } from 'node:events'
import { existsSync, readFileSync, readlinkSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import t from 'tap'
import { attestConnection } from '../../src/attestation/socket/attest-connection.ts'
import { controlGroupProcesses } from '../../src/attestation/socket/control-group.ts'
import { findHolders } from '../../src/attestation/socket/find-holders.ts'
import { openSocketDiagnosis, type SocketDiagnosis } from '../../src/attestation/socket/socket-diagnosis.ts'
import { createUnixAttestor } from '../../src/attestation/workload/unix/unix-attestor.ts'
import type { WorkloadAttestor } from '../../src/attestation/workload/workload-attestor.ts'
import { systemClock } from '../../src/runtime/clock.ts'
import { silentLogger } from '../../src/runtime/logger.ts'
import { formatSelector } from '../../src/spiffe/selector.ts'
import { ManualClock } from '../fakes/clock.ts'
import { needsNamespaces } from '../fakes/namespace.ts'
import { noChosenPids, runChoosingPids } from '../fakes/own-pids.ts'
import { Shell } from '../fakes/shell.ts'
import { connect, listen, type Connection } from './connections.ts'
import { isRoot, until } from './real-process.ts'

const signal = new AbortController().signal
const needsRoot = isRoot ? false : 'needs root'
const isGrouped = ['', 'unified/'].some(folder => existsSync(`/sys/fs/cgroup/${folder}cgroup.procs`))
const needsGroups = isGrouped ? false : 'needs control groups of version 2'
const needsNumbers = noChosenPids()
const unix = createUnixAttestor({ discoverWorkloadPath: false, workloadSizeLimit: 0 })
const none: SocketDiagnosis = { connection: () => undefined, [Symbol.dispose] () {} }

async function attest (
  { source, destination }: Connection, { sockets, attestors = [unix] }: { sockets: SocketDiagnosis, attestors?: WorkloadAttestor[] }
): Promise<string[]> {
  // What is done meanwhile takes a busy machine as long as it takes.
  const clock = new ManualClock()
  const found = await attestConnection(source, destination, { sockets, attestors, clock, log: silentLogger }, signal)
  return found.map(formatSelector)
}

/** From which port somebody in the process's network namespace is connected to that one. */
function sourcePort (pid: number, port: number): number {
  const rows = readFileSync(`/proc/${pid}/net/tcp`, 'latin1').split('\n').map(line => line.trim().split(/\s+/))
  const portIn = (end = '') => Number.parseInt(end.split(':')[1] ?? '', 16)
  return portIn(rows.find(([, , remote, state]) => portIn(remote) === port && state === '01')?.[1])
}

/** Does something once the holder's facts have been read. */
function meanwhile (act: () => Promise<void>): WorkloadAttestor {
  return { name: 'unix', async attest (process, signal) { const found = await unix.attest(process, signal); await act(); return found } }
}

void t.test('a connection leads to the process that made it: IPv4, IPv6 and IPv4 on a socket of IPv6', async t => {
  using sockets = openSocketDiagnosis()
  for (const [bind, host] of [['127.0.0.1', '127.0.0.1'], ['::1', '::1'], ['::', '127.0.0.1']] as const) {
    await using server = await listen(bind)
    await using shell = await Shell.start()
    const connection = await connect(shell, server, host)
    const { source, destination } = connection
    const socket = sockets.connection(source, destination)
    t.match(socket, { state: 1, uid: process.getuid?.(), localPort: source.port }, `${host} at ${bind}`)
    using found = await findHolders(socket!, signal)
    t.strictSame(found.holders.map(({ pid }) => pid), [shell.pid], 'and not to this process, which has the other end')
    t.ok((await attest(connection, { sockets })).includes(`unix:uid:${process.getuid?.()}`))
    connection.accepted.destroy()
  }
})

void t.test('another user\'s process', { skip: needsRoot }, async t => {
  using sockets = openSocketDiagnosis()
  await using server = await listen('127.0.0.1')
  await using shell = await Shell.start({ uid: 4711, gid: 4712 })
  const connection = await connect(shell, server)
  const own = (values: string[]) => values.filter(value => !value.startsWith('unix:supplementary'))
  t.strictSame(own(await attest(connection, { sockets })), ['unix:gid:4712', 'unix:uid:4711'])
  connection.accepted.end()
  await until(() => sockets.connection(connection.source, connection.destination)?.state === 8)
  t.ok((await attest(connection, { sockets })).includes('unix:uid:4711'), 'one that has heard all is still there (CLOSE-WAIT)')
  await shell.run('exec 3>&-')
  await t.rejects(attest(connection, { sockets }), { code: 'connection_unknown' }, 'one that closed is not')
})

void t.test('a connection that nobody has is nobody\'s', async t => {
  using sockets = openSocketDiagnosis()
  await using server = await listen('127.0.0.1')
  await using shell = await Shell.start()
  const connection = await connect(shell, server)
  const { source, destination } = connection
  await t.rejects(attest({ ...connection, source: destination, destination: { address: '192.0.2.1', port: 80 } }, { sockets }),
    { code: 'connection_unknown' }, 'a listener on the same port is no connection, though the kernel names it')
  await t.rejects(attest({ ...connection, destination: { ...destination, port: 1 } }, { sockets }), { code: 'connection_unknown' })
  await t.rejects(attest({ ...connection, source: { ...source, address: '192.0.2.7' } }, { sockets }), { code: 'connection_unknown' })
  await t.rejects(attest(connection, { sockets: none }), { code: 'connection_unknown' })
  for (const address of ['localhost', '', 'fe80::1%lo', '300.0.0.1']) {
    await t.rejects(attest({ ...connection, source: { ...source, address } }, { sockets }), { code: 'argument_invalid' }, address)
  }
  // Both ends closed by the client first: the kernel keeps the pair for a minute, and says that user 0 has it.
  const closed = once(connection.accepted, 'close')
  await shell.run('exec 3>&-')
  connection.accepted.destroy()
  await closed
  await t.rejects(attest(connection, { sockets }), { code: 'connection_unknown' }, 'TIME-WAIT')
})

void t.test('a process that ends, lets go or connects anew while it is looked at', async t => {
  using sockets = openSocketDiagnosis()
  for (const [what, act, code] of [
    ['ends', (shell: Shell) => shell.end(), 'caller_gone'],
    ['lets go', (shell: Shell) => shell.run('exec 3>&-').then(() => {}), 'caller_gone'],
    ['runs another program', async (shell: Shell) => {
      void shell.run('exec /bin/sleep 60').catch(() => {})
      await until(() => readFileSync(`/proc/${shell.pid}/comm`, 'utf8') === 'sleep\n')
    }, 'caller_gone']
  ] as const) {
    await using server = await listen('127.0.0.1')
    await using shell = await Shell.start()
    const connection = await connect(shell, server)
    await t.rejects(attest(connection, { sockets, attestors: [meanwhile(() => act(shell))] }), { code }, what)
    connection.accepted.destroy()
  }
  await using server = await listen('127.0.0.1')
  await using shell = await Shell.start()
  const connection = await connect(shell, server)
  const { source, destination } = connection
  const socket = sockets.connection(source, destination)!
  t.equal(sockets.connection(source, destination, { ...socket, cookie: [socket.cookie[0] ^ 1, socket.cookie[1]] }), undefined,
    'a socket that came later with the same ends is another')
  t.equal(sockets.connection(source, destination, { ...socket, inode: socket.inode + 1 }), undefined)
  connection.accepted.destroy()
})

void t.test('a process that hands its connection to another user', { skip: needsRoot }, async t => {
  using sockets = openSocketDiagnosis()
  await using server = await listen('127.0.0.1')
  await using shell = await Shell.start()
  const connection = await connect(shell, server)
  await shell.run('setpriv --reuid=4711 --regid=4711 --clear-groups /bin/sleep 60 >/dev/null & other=$!')
  const other = Number(await shell.run('echo $other'))
  t.teardown(() => { try { process.kill(other, 'SIGKILL') } catch { /* It has ended. */ } })
  await until(() => readFileSync(`/proc/${other}/comm`, 'utf8') === 'sleep\n')
  const socket = sockets.connection(connection.source, connection.destination)!
  using found = await findHolders(socket, signal)
  t.strictSame(found.holders.map(({ uid }) => uid).toSorted((a, b) => a - b), [0, 4711])
  await t.rejects(attest(connection, { sockets }), { code: 'connection_ambiguous', message: /process \d+ of user 4711 has the socket/ })
  await shell.run('exec 3>&-')
  await t.rejects(attest(connection, { sockets }), { code: 'connection_ambiguous' }, 'nor has it the identity of who connected')
  await shell.run('kill -KILL $other; wait')
  await t.rejects(attest(connection, { sockets }), { code: 'connection_unknown' })
})

void t.test('forks of one program are one workload; those that differ are none', async t => {
  using sockets = openSocketDiagnosis()
  await using server = await listen('127.0.0.1')
  await using shell = await Shell.start()
  const connection = await connect(shell, server)
  await shell.run('/bin/sleep 60 >/dev/null & other=$!')
  const other = Number(await shell.run('echo $other'))
  t.teardown(() => { try { process.kill(other, 'SIGKILL') } catch { /* It has ended. */ } })
  await until(() => readFileSync(`/proc/${other}/comm`, 'utf8') === 'sleep\n')
  t.ok((await attest(connection, { sockets })).includes(`unix:uid:${process.getuid?.()}`))
  const byPath = createUnixAttestor({ discoverWorkloadPath: true, workloadSizeLimit: -1 })
  await t.rejects(attest(connection, { sockets, attestors: [byPath] }), { code: 'connection_ambiguous', message: /^2 processes with diff/ })
  connection.accepted.destroy()
})

void t.test('a number that another process is given', { skip: needsNumbers }, async t => {
  const { end, output } = await runChoosingPids(t, join(import.meta.dirname, 'number-again.ts'))
  t.strictSame(end, [0, null], 'the scenario ran to its end')
  const told = JSON.parse(output) as Record<string, unknown> & { readonly pids: readonly number[] }
  t.equal(told.pids[1], told.pids[0], 'the number is given again')
  t.equal(told['before'], 'is there')
  t.match(told['after'], { code: 'caller_gone', message: /ended/ }, 'the successor has a descriptor 3 too')
  t.equal(told['successor'], 'is there', 'and is one of its own')
  t.equal(told['hasOldSocket'], false, 'which does not have the old socket')
})

void t.test('another network namespace', { skip: needsNamespaces }, async t => {
  await using inside = await Shell.start({ within: ['unshare', '--net', '--'] })
  await inside.run('ip link set lo up')
  // Both ends are in there.
  await using shell = await Shell.start({ within: ['nsenter', `--net=/proc/${inside.pid}/ns/net`, '--'] })
  using there = openSocketDiagnosis({ netns: `/proc/${inside.pid}/ns/net` })
  using here = openSocketDiagnosis()
  const own = readlinkSync('/proc/thread-self/ns/net')
  const port = 20_000 + process.pid % 10_000
  const script = 'require("net").createServer().listen(+process.argv[1],"127.0.0.1",()=>console.log("open"))'
  await inside.run(`exec 4< <(exec ${process.execPath} -e '${script}' ${port}) && read -r line <&4; server=$!`)
  // From a port that this namespace gives to nobody by itself, nor a test to its own: it is listened on here as well.
  await shell.run('{ echo 32001 32700 > /proc/sys/net/ipv4/ip_local_port_range; } 2>/dev/null || true')
  await shell.run(`exec 3<>/dev/tcp/127.0.0.1/${port}`)
  const source = { address: '127.0.0.1', port: sourcePort(shell.pid, port) }
  const destination = { address: '127.0.0.1', port }
  const deps = { attestors: [unix], clock: systemClock, log: silentLogger }
  await t.rejects(attestConnection(source, destination, { ...deps, sockets: here }, signal), { code: 'connection_unknown' })
  await using listener = createServer().listen(source.port, '0.0.0.0')
  await once(listener, 'listening')
  await t.rejects(attestConnection(source, destination, { ...deps, sockets: here }, signal), { code: 'connection_unknown' },
    'nor is it who listens here on the port it came from')
  const found = await attestConnection(source, destination, { ...deps, sockets: there }, signal)
  t.ok(found.map(formatSelector).includes('unix:uid:0'), 'asked in its own namespace it is found')
  await inside.run('kill -KILL $server')
  t.throws(() => openSocketDiagnosis({ netns: '/proc/self/ns/mnt' }), { code: 'socket_lookup_failed', message: /cannot enter/ })
  t.throws(() => openSocketDiagnosis({ netns: '/absent' }), { code: 'socket_lookup_failed' })
  t.equal(readlinkSync('/proc/thread-self/ns/net'), own, 'and this thread is in its own')
})

void t.test('a control group is found by its number', { skip: needsRoot || needsGroups }, async t => {
  using sockets = openSocketDiagnosis()
  await using server = await listen('127.0.0.1')
  await using shell = await Shell.start()
  const connection = await connect(shell, server)
  const { cgroupId } = sockets.connection(connection.source, connection.destination)!
  t.ok(controlGroupProcesses(cgroupId!)?.includes(shell.pid))
  t.equal(controlGroupProcesses(2n ** 60n), undefined)
  connection.accepted.destroy()
})
