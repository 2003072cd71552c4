import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { chmodSync, copyFileSync, readFileSync, readlinkSync, realpathSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { attestWorkload } from '../../src/attestation/workload/attest-workload.ts'
import type { PinnedProcess } from '../../src/attestation/workload/pinned-process.ts'
import { createUnixAttestor, type UnixAttestorConfig, type UnixAttestorDeps } from '../../src/attestation/workload/unix/unix-attestor.ts'
import { unixPlugin } from '../../src/attestation/workload/unix/unix-plugin.ts'
import { systemClock } from '../../src/runtime/clock.ts'
import { silentLogger } from '../../src/runtime/logger.ts'
import { formatSelector } from '../../src/spiffe/selector.ts'
import { copySleep, isRoot, pin, startProcess, until } from './real-process.ts'

const signal = new AbortController().signal
const withPath: UnixAttestorConfig = { discoverWorkloadPath: true, workloadSizeLimit: 0 }
const needsRoot = isRoot ? false : 'needs root'

async function attest (process: PinnedProcess, config: Partial<UnixAttestorConfig> = {}, deps: UnixAttestorDeps = {}): Promise<string[]> {
  const attestors = [createUnixAttestor({ discoverWorkloadPath: false, workloadSizeLimit: 0, ...config }, deps)]
  const found = await attestWorkload(process, { attestors, clock: systemClock, log: silentLogger }, signal)
  return found.map(formatSelector)
}

/** The reason behind the refusal, which only the log gets. */
async function reasonOf (process: PinnedProcess, config: UnixAttestorConfig): Promise<unknown> {
  return await createUnixAttestor(config).attest(process, signal).then(() => undefined, (error: unknown) => error)
}

function sha256 (path: string): string {
  return createHash('sha256').update(readFileSync(path)).digest('hex')
}

t.test('WLE-12 who a process is, found without its help', async t => {
  const folder = realpathSync(t.testdir({}))
  const program = copySleep(join(folder, 'workload'))
  await using running = await startProcess([program, '60'], program)
  const { uid, gid } = pin(running.pid)
  const passwd = join(folder, 'passwd')
  const group = join(folder, 'group')
  writeFileSync(passwd, `other:x:99999:0::/:/bin/sh\nworkload-user:x:${uid}:${gid}::/:/bin/sh\n`)
  writeFileSync(group, `workload-group:x:${gid}:\n`)
  const names = { passwdFile: passwd, groupFile: group }
  const own = (values: string[]) => values.filter(value => !value.startsWith('unix:supplementary'))

  t.strictSame(own(await attest(pin(running.pid), {}, names)), [
    `unix:gid:${gid}`, 'unix:group:workload-group', `unix:uid:${uid}`, 'unix:user:workload-user'
  ], 'without path and digest unless they are asked for')
  t.strictSame(own(await attest(pin(running.pid), withPath, names)), [
    `unix:gid:${gid}`, 'unix:group:workload-group', `unix:path:${program}`, `unix:sha256:${sha256(program)}`,
    `unix:uid:${uid}`, 'unix:user:workload-user'
  ])
  const absent = { passwdFile: join(folder, 'absent'), groupFile: join(folder, 'absent') }
  t.strictSame(own(await attest(pin(running.pid), {}, absent)), [`unix:gid:${gid}`, `unix:uid:${uid}`], 'numbers without a name')
})

t.test('another user with supplementary groups', { skip: needsRoot }, async t => {
  const folder = realpathSync(t.testdir({ group: 'primary:x:5678:\nextra:x:4242:\n', passwd: 'someone:x:1234:5678::/:/bin/sh\n' }))
  const program = realpathSync('/bin/sleep')
  await using running = await startProcess(
    ['setpriv', '--reuid=1234', '--regid=5678', '--groups=24,4242', '/bin/sleep', '60'], program)
  const names = { passwdFile: join(folder, 'passwd'), groupFile: join(folder, 'group') }
  t.strictSame(await attest(pin(running.pid, 1234, 5678), withPath, names), [
    'unix:gid:5678', 'unix:group:primary', `unix:path:${program}`, `unix:sha256:${sha256(program)}`,
    'unix:supplementary_gid:24', 'unix:supplementary_gid:4242', 'unix:supplementary_group:extra', 'unix:uid:1234', 'unix:user:someone'
  ])
  await t.rejects(attest(pin(running.pid, 0, 5678)), { code: 'caller_gone' }, 'connected as another user than it is now')
  await t.rejects(attest(pin(running.pid, 1234, 0)), { code: 'caller_gone' }, 'connected with another group than it has now')
})

t.test('groups without end are not read', { skip: needsRoot }, async t => {
  const inGroups = async (count: number) => {
    const groups = Array.from({ length: count }, (_, at) => 10_000 + at).join()
    return await startProcess(
      ['setpriv', '--reuid=1234', '--regid=5678', `--groups=${groups}`, '/bin/sleep', '60'], realpathSync('/bin/sleep'))
  }
  const config = { discoverWorkloadPath: false, workloadSizeLimit: 0 }
  await using most = await inGroups(4_096)
  t.equal((await attest(pin(most.pid, 1234, 5678))).filter(text => text.startsWith('unix:supplementary_gid:')).length, 4_096)
  await using more = await inGroups(4_097)
  t.match(await reasonOf(pin(more.pid, 1234, 5678), config), { code: 'workload_attestation_failed', message: /in 4097 groups/ })
})

t.test('the effective user counts, not the real one', { skip: needsRoot }, async t => {
  await using running = await startProcess(
    ['setpriv', '--ruid=1234', '--rgid=5678', '--clear-groups', '/bin/sleep', '60'], realpathSync('/bin/sleep'))
  t.match(readFileSync(`/proc/${running.pid}/status`, 'utf8'), /^Uid:\t1234\t0\t/m, 'real and effective ID differ')
  const found = await attest(pin(running.pid, 0, 0))
  t.ok(found.includes('unix:uid:0') && found.includes('unix:gid:0'), found.join(' '))
})

t.test('the size limit', async t => {
  const folder = realpathSync(t.testdir({}))
  const program = copySleep(join(folder, 'workload'))
  await using running = await startProcess([program, '60'], program)
  const { length } = readFileSync(program)
  const digest = `unix:sha256:${sha256(program)}`
  t.ok((await attest(pin(running.pid), { ...withPath, workloadSizeLimit: length })).includes(digest), 'exactly as long as the limit')
  const short = { ...withPath, workloadSizeLimit: length - 1 }
  await t.rejects(attest(pin(running.pid), short), { code: 'workload_attestation_failed' }, 'longer: an error, not fewer selectors')
  t.match(await reasonOf(pin(running.pid), short), { message: `executable of ${length} bytes exceeds workload_size_limit ${length - 1}` })
  const never = await attest(pin(running.pid), { ...withPath, workloadSizeLimit: -1 })
  t.ok(never.includes(`unix:path:${program}`) && !never.some(value => value.startsWith('unix:sha256')), 'negative: no digest')
})

t.test('the program is the one that runs, whatever is at its path now', async t => {
  const folder = realpathSync(t.testdir({}))
  const program = copySleep(join(folder, 'workload'))
  const digest = sha256(program)
  await using running = await startProcess([program, '60'], program)
  rmSync(program)
  const isPath = (value: string) => value.startsWith('unix:path:')
  const removed = await attest(pin(running.pid), withPath)
  t.ok(removed.includes(`unix:sha256:${digest}`))
  t.notOk(removed.some(isPath), 'a removed file has no path')
  writeFileSync(program, 'another program')
  const replaced = await attest(pin(running.pid), withPath)
  t.ok(replaced.includes(`unix:sha256:${digest}`), 'not the digest of the file that took its place')
  t.notOk(replaced.some(isPath))
  writeFileSync(`${program} (deleted)`, 'bait')
  t.equal(readlinkSync(`/proc/${running.pid}/exe`), `${program} (deleted)`)
  t.notOk((await attest(pin(running.pid), withPath)).some(isPath), 'nor may a file be named like a removed one')

  const odd = copySleep(join(folder, 'workload2 (deleted)'))
  await using named = await startProcess([odd, '60'], odd)
  t.ok((await attest(pin(named.pid), withPath)).includes(`unix:path:${odd}`), 'a file that really has such a name keeps it')
})

const unshare = isRoot ? ['unshare', '--mount'] : ['unshare', '--map-root-user', '--mount']
const probe = spawnSync(unshare[0] as string, [...unshare.slice(1), 'true'])
const needsNamespaces = probe.status === 0 ? false : 'cannot make a mount namespace'
t.test('a path inside a mount namespace of its own says nothing', { skip: needsNamespaces }, async t => {
  const folder = realpathSync(t.testdir({}))
  const entitled = copySleep(join(folder, 'entitled'))
  const hostile = join(folder, 'hostile')
  copyFileSync('/bin/sleep', hostile)
  writeFileSync(hostile, Buffer.concat([readFileSync(hostile), Buffer.from('changed')]))
  chmodSync(hostile, 0o755)
  const script = `mount --bind '${hostile}' '${entitled}' && exec '${entitled}' 60`
  await using running = await startProcess([...unshare, 'sh', '-c', script], entitled)
  t.equal(readlinkSync(`/proc/${running.pid}/exe`), entitled, 'the kernel shows the path as the process has arranged it')
  const found = await attest(pin(running.pid), withPath)
  t.notOk(found.some(value => value.startsWith('unix:path:')), 'which is not the file that we have there')
  t.ok(found.includes(`unix:sha256:${sha256(hostile)}`), 'the digest is that of what runs')
})

t.test('WLE-12 connect, execute the entitled program, ask: refused', async t => {
  const entitled = copySleep(join(realpathSync(t.testdir({})), 'entitled'))
  await using running = await startProcess(['/bin/sh', '-c', `read line; exec '${entitled}' 60`], realpathSync('/bin/sh'))
  const caller = pin(running.pid)
  t.ok(await attest(caller, withPath), 'attested as what it is')
  running.child.stdin?.end('go\n')
  await until(() => readlinkSync(`/proc/${running.pid}/exe`) === entitled)
  await t.rejects(attest(caller, withPath), { code: 'caller_gone' })
})

t.test('a process that ended', async t => {
  const running = await startProcess(['/bin/sleep', '60'], realpathSync('/bin/sleep'))
  const caller = pin(running.pid)
  await running[Symbol.asyncDispose]()
  await t.rejects(attest(caller, withPath), { code: 'caller_gone' })
  const unwatched = { ...caller, check () {} }
  await t.rejects(attest(unwatched), { code: 'caller_gone' }, 'also when only the attestor notices')
})

t.test('an agent without the right to look', { skip: needsRoot }, async t => {
  await using running = await startProcess(['/bin/sleep', '60'], realpathSync('/bin/sleep'))
  const caller = { ...pin(running.pid), check () {} }
  process.seteuid?.(65_534)
  try {
    const reason = { code: 'workload_attestation_failed', message: /^may not read \/proc\/\d+\/exe: run the agent/ }
    t.match(await reasonOf(caller, withPath), reason)
    t.ok((await attest(caller)).includes('unix:uid:0'), 'needs none for the numbers')
  } finally {
    process.seteuid?.(0)
  }
})

t.test('a digest is made once for many callers, and anew for a changed file', async t => {
  const folder = realpathSync(t.testdir({}))
  const program = copySleep(join(folder, 'workload'))
  truncateSync(program, 8 * 1024 * 1024)
  const processes = await Promise.all(Array.from({ length: 5 }, () => startProcess([program, '60'], program)))
  try {
    const attestor = createUnixAttestor(withPath)
    const found = await Promise.all(processes.map(({ pid }) => attestor.attest(pin(pid), signal)))
    for (const selectors of found) t.ok(selectors.map(formatSelector).includes(`unix:sha256:${sha256(program)}`))
    t.equal(openFilesNamed(program), 0, 'no file is left open')
  } finally {
    for (const running of processes) await running[Symbol.asyncDispose]()
  }
})

function openFilesNamed (path: string): number {
  const { stdout } = spawnSync('ls', ['-l', `/proc/${process.pid}/fd`], { encoding: 'utf8' })
  return stdout.split('\n').filter(line => line.endsWith(` -> ${path}`)).length
}

t.test('as a plugin', async t => {
  t.strictSame(unixPlugin.config.parse({}), { discoverWorkloadPath: false, workloadSizeLimit: 0 })
  const config = unixPlugin.config.parse({ discover_workload_path: true, workload_size_limit: -1 })
  t.strictSame(config, { discoverWorkloadPath: true, workloadSizeLimit: -1 })
  await using attestor = await unixPlugin.start(config, { clock: systemClock, log: silentLogger }, signal)
  t.equal(attestor.name, 'unix')
  for (const refused of [{ discover_workload_pth: true }, { workload_size_limit: 1.5 }]) {
    t.notOk(unixPlugin.config.safeParse(refused).success, JSON.stringify(refused))
  }
})
