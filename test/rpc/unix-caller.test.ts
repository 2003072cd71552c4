import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readdirSync, readlinkSync, rmSync } from 'node:fs'
import { createServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { loadSocketOptions } from '../../src/rpc/socket-options.ts'
import { identifyPeer, pinProcess } from '../../src/rpc/unix-peer.ts'
import { eventually } from '../fakes/eventually.ts'
import { connected, lineOf, python } from '../fakes/unix-rpc.ts'

void t.test('the caller is the process that connected', async t => {
  loadSocketOptions()
  // A socket's path is short, and a checkout's may be long.
  const folder = mkdtempSync(join(tmpdir(), 'peer-'))
  const path = join(folder, 'peer.sock')
  const sockets: Socket[] = []
  const peers: Array<ReturnType<typeof identifyPeer>> = []
  const listener = createServer(socket => { sockets.push(socket); peers.push(identifyPeer(socket)) }).listen(path)
  t.teardown(() => {
    for (const peer of peers) peer[Symbol.dispose]()
    for (const socket of sockets) socket.destroy()
    listener.close()
    rmSync(folder, { recursive: true })
  })
  await once(listener, 'listening')
  const gone = { name: 'SpiffeError', code: 'caller_gone' }

  const stays = await connected(path)
  await eventually('accepted', () => peers.length === 1)
  t.equal(peers[0]?.pid, process.pid)
  t.doesNotThrow(() => peers[0]?.check(), 'a process that lives on passes')
  stays.destroy()

  const exec = python(t, `
s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); os.set_inheritable(s.fileno(), True)
sys.stdin.readline()
os.execvp('sleep', ['sleep', '60'])`, [path])
  await eventually('accepted', () => peers.length === 2)
  t.equal(peers[1]?.pid, exec.pid)
  t.equal(peers[1]?.executableKnown, true)
  t.doesNotThrow(() => peers[1]?.check())
  const program = readlinkSync(`/proc/${exec.pid}/exe`)
  exec.stdin.write('\n')
  await eventually('the program is another', () => readlinkSync(`/proc/${exec.pid}/exe`) !== program)
  t.throws(() => peers[1]?.check(), { ...gone, message: `process ${exec.pid} runs another program now` },
    'WLE-12 connect, exec, ask is refused')

  const fork = python(t, `
s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])
child = os.fork()
if child == 0:
  time.sleep(60)
print(child, flush=True)
sys.stdin.readline()`, [path])
  const child = Number(await lineOf(fork, ''))
  t.teardown(() => process.kill(child))
  await eventually('accepted', () => peers.length === 3)
  t.doesNotThrow(() => peers[2]?.check())
  fork.stdin.write('\n')
  await once(fork, 'exit')
  t.notOk(sockets[2]?.destroyed, 'the child keeps the connection')
  t.throws(() => peers[2]?.check(), gone, 'WLE-12 it does not inherit the identity')

  peers[0]?.[Symbol.dispose]()
  t.throws(() => peers[0]?.check(), gone, 'nor does anybody once the connection is closed')
})

void t.test('a process by its PID', async t => {
  using own = pinProcess(process.pid)
  t.match(own, { pid: process.pid, uid: process.geteuid?.(), gid: process.getegid?.(), executableKnown: true })
  own.check()
  const thread = readdirSync('/proc/self/task').map(Number).find(id => id !== process.pid) as number
  t.throws(() => pinProcess(thread), { code: 'caller_gone' }, 'a thread is no process')

  const child = spawn('sleep', ['60'])
  const exit = once(child, 'exit')
  using pinned = pinProcess(child.pid as number)
  pinned.check()
  child.kill('SIGKILL')
  await exit
  t.throws(() => pinned.check(), { code: 'caller_gone' }, 'its end is noticed')
  t.throws(() => pinProcess(child.pid as number), { code: 'caller_gone', message: `there is no process ${child.pid}` })
})
