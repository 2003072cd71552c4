import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { DbusConnection } from '../../src/attestation/workload/systemd/dbus-connection.ts'
import { bodyOf, decodeMessage, encodeCall, messageLength } from '../../src/attestation/workload/systemd/dbus-message.ts'
import { createSystemdAttestor } from '../../src/attestation/workload/systemd/systemd-attestor.ts'
import { systemdPlugin } from '../../src/attestation/workload/systemd/systemd-plugin.ts'
import { formatSelector } from '../../src/spiffe/selector.ts'
import { FakeSystemd } from '../fakes/systemd.ts'

/** A bus that does not answer fails the test and does not hold it up. */
const signal = AbortSignal.timeout(120_000)
const web = { id: 'nginx.service', fragmentPath: '/usr/lib/systemd/system/nginx.service' }
const processOf = (pid: number) => ({ pid, uid: 0, gid: 0, check () {} })
const hasDaemon = spawnSync('dbus-daemon', ['--version'], { stdio: 'ignore' }).status === 0
const hasBusctl = spawnSync('busctl', ['--version'], { stdio: 'ignore' }).status === 0

/** Short, since a socket's path must be. */
function newFolder (t: Test): string {
  const folder = mkdtempSync(join(tmpdir(), 'assay-'))
  t.teardown(() => rmSync(folder, { recursive: true }))
  return folder
}

async function attest (attestor: ReturnType<typeof createSystemdAttestor>, pid: number, until = signal): Promise<string[]> {
  return (await attestor.attest(processOf(pid), until)).map(formatSelector)
}

void t.test('the unit of a process, and where it comes from', async t => {
  const busSocketPath = join(newFolder(t), 'bus')
  await using systemd = await FakeSystemd.listen(busSocketPath)
  systemd.units.set(4711, web)
  systemd.units.set(4712, { id: 'session-1.scope', fragmentPath: '' })
  using attestor = createSystemdAttestor({ busSocketPath })
  const ofWeb = ['systemd:id:nginx.service', 'systemd:fragment_path:/usr/lib/systemd/system/nginx.service']
  t.strictSame(await attest(attestor, 4711), ofWeb)
  t.strictSame(await attest(attestor, 4712), ['systemd:id:session-1.scope', 'systemd:fragment_path:'], 'as SPIRE has it')
  t.strictSame(await attest(attestor, 4713), [], 'a process of no unit has none')
  systemd.chatter = true
  systemd.crumbs = true
  t.strictSame(await attest(attestor, 4711), ofWeb, 'whatever else the bus says, and in whatever pieces')
  systemd.crumbs = false
  const many = await Promise.all(Array.from({ length: 50 }, () => attest(attestor, 4711)))
  t.ok(many.every(found => found.length === 2))
  t.equal(systemd.connections, 1, 'over one connection')
  systemd.disconnect()
  t.strictSame(await attest(attestor, 4711).catch(() => attest(attestor, 4711)), ofWeb, 'which is made again when it has ended')
  t.equal(systemd.connections, 2)
})

void t.test('what cannot be found out is no missing fact', async t => {
  const folder = newFolder(t)
  const failed = { code: 'workload_attestation_failed' }
  await t.rejects(attest(createSystemdAttestor({ busSocketPath: join(folder, 'absent') }), 1), failed, 'no bus')
  for (const [what, answer] of [
    ['refuses', 'REJECTED EXTERNAL\r\n'], ['is no bus', 'HTTP/1.1 400 Bad Request\r\n'], ['ends no line', 'x'.repeat(20_000)],
    ['says nonsense afterwards', 'OK 00\r\nHTTP/1.1 400 Bad Request\r\n'],
    ['announces too much', 'OK 00\r\nl\x02\x01\x01\xff\xff\xff\x7f\x01\0\0\0\0\0\0\0']
  ] as const) {
    const path = join(folder, what.replaceAll(' ', '-'))
    await using server = createServer(socket => { socket.resume().on('error', () => {}).write(answer, 'latin1') }).listen(path)
    await once(server, 'listening')
    const attesting = attest(createSystemdAttestor({ busSocketPath: path }), 1)
    await t.rejects(attesting, failed, what)
  }
  const silent = join(folder, 'silent')
  await using server = createServer(socket => { socket.resume().on('error', () => {}) }).listen(silent)
  await once(server, 'listening')
  const stop = new AbortController()
  using attestor = createSystemdAttestor({ busSocketPath: silent })
  const attesting = attest(attestor, 1, stop.signal)
  stop.abort(new Error('stopped'))
  await t.rejects(attesting, { message: 'stopped' }, 'a bus that says nothing is left when the caller is')
})

void t.test('systemd\'s own client understands what stands in for systemd', { skip: !hasBusctl && 'needs busctl' }, async t => {
  const path = join(newFolder(t), 'bus')
  await using systemd = await FakeSystemd.listen(path)
  systemd.units.set(4711, web)
  const ask = async (...words: string[]) => {
    const child = spawn('busctl', [`--address=unix:path=${path}`, 'call', 'org.freedesktop.systemd1', ...words])
    let text = ''
    for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', (part: string) => { text += part })
    await once(child, 'close')
    return text.trim()
  }
  const object = '/org/freedesktop/systemd1'
  const unit = `${object}/unit/4711`
  const manager = 'org.freedesktop.systemd1.Manager'
  t.equal(await ask(object, manager, 'GetUnitByPID', 'u', '4711'), `o "${unit}"`)
  t.match(await ask(object, manager, 'GetUnitByPID', 'u', '1'), /as it was asked/)
  const property = ['org.freedesktop.DBus.Properties', 'Get', 'ss', 'org.freedesktop.systemd1.Unit', 'Id']
  t.equal(await ask(unit, ...property), 'v s "nginx.service"')
})

void t.test('a real message bus understands us', { skip: !hasDaemon && 'needs dbus-daemon' }, async t => {
  const folder = newFolder(t)
  const path = join(folder, 'bus')
  writeFileSync(join(folder, 'bus.conf'), `<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
    "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
    <busconfig><listen>unix:path=${path}</listen><auth>EXTERNAL</auth>
    <policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/></policy></busconfig>`)
  const daemon = spawn('dbus-daemon', ['--nofork', '--print-address', `--config-file=${join(folder, 'bus.conf')}`], {
    stdio: ['ignore', 'pipe', 'ignore']
  })
  t.teardown(() => { daemon.kill() })
  await once(daemon.stdout, 'data')
  using connection = await DbusConnection.open(path, signal)
  const bus = { destination: 'org.freedesktop.DBus', path: '/org/freedesktop/DBus', interface: 'org.freedesktop.DBus' }
  t.match(await connection.call({ ...bus, member: 'GetId', signature: '', body: [] }, signal), [/^[0-9a-f]{32}$/])
  t.strictSame(await connection.call({ ...bus, member: 'NameHasOwner', signature: 's', body: ['org.freedesktop.DBus'] }, signal), [true])
  const pid = await connection.call({ ...bus, member: 'GetConnectionUnixProcessID', signature: 's', body: [':1.0'] }, signal)
  t.strictSame(pid, [process.pid], 'and knows from the kernel who we are')
  t.strictSame(await connection.call({ ...bus, member: 'RequestName', signature: 'su', body: ['org.example.A', 4] }, signal), [1])
  await t.rejects(connection.call({ ...bus, member: 'NoSuchMethod', signature: '', body: [] }, signal), {
    name: 'DbusError', errorName: 'org.freedesktop.DBus.Error.UnknownMethod'
  })
  using attestor = createSystemdAttestor({ busSocketPath: path })
  await t.rejects(attest(attestor, 1), { code: 'workload_attestation_failed' }, 'a bus without systemd')
})

void t.test('messages', t => {
  const call = {
    destination: 'org.example.A', path: '/a', interface: 'a.b', member: 'M', signature: 'su', body: ['é', 4_294_967_295]
  }
  const bytes = encodeCall(7, call)
  t.equal(messageLength(bytes), bytes.length)
  t.equal(messageLength(bytes.subarray(0, 15)), undefined)
  const message = decodeMessage(bytes)
  t.match(message, { type: 1, serial: 7, signature: 'su', replySerial: undefined })
  t.strictSame(bodyOf(message), call.body)
  for (let length = 16; length < bytes.length; length++) {
    t.throws(() => { bodyOf(decodeMessage(bytes.slice(0, length))) }, RangeError, `cut at ${length}`)
  }
  t.throws(() => bodyOf({ ...message, signature: 'a' }), RangeError, 'a type that no answer of ours has')
  t.end()
})

void t.test('configuration', t => {
  t.strictSame(systemdPlugin.config.parse({}), { busSocketPath: '/run/dbus/system_bus_socket' })
  for (const raw of [{ bus_socket_path: 'bus' }, { bus: '/x' }]) t.throws(() => systemdPlugin.config.parse(raw))
  t.end()
})
