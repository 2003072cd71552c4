import { createHash } from 'node:crypto'
import { chmod, readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { LineReader, pluginLog } from '../../src/pluginhost/plugin-output.ts'
import { parseHandshake } from '../../src/pluginhost/handshake-line.ts'
import { PluginProcess } from '../../src/pluginhost/plugin-process.ts'
import { createLogger } from '../../src/runtime/logger.ts'
import { capturedLog } from '../fakes/captured-log.ts'
import { ManualClock } from '../fakes/clock.ts'
import { eventually } from '../fakes/eventually.ts'
import { pluginHost, programOf } from '../fakes/plugin-host.ts'

t.setTimeout(120_000)
const { signal } = new AbortController()

/** Starts `script` as a plugin of the type WorkloadAttestor. */
async function start (t: { testdir (): string }, script: string, checksum?: string, clock?: ManualClock) {
  const { host, lines } = pluginHost()
  const program = { ...programOf('/bin/sh', ['-c', script]), checksum }
  const options = { type: 'WorkloadAttestor', program, folder: t.testdir(), clock: clock ?? host.clock, log: host.log }
  return { started: PluginProcess.start(options, signal), lines }
}

void t.test('the first line of a plugin', async t => {
  t.equal(parseHandshake('1|1|unix|/tmp/plugin1|grpc|'), '/tmp/plugin1')
  t.equal(parseHandshake('1|1|unix|/tmp/plugin1|grpc\r'), '/tmp/plugin1', 'plugins of an older go-plugin')
  t.equal(parseHandshake('1|1|unix|/tmp/plugin1|grpc||true'), '/tmp/plugin1', 'and of newer ones')
  const refused = {
    'no handshake': 'usage: plugin secret-word', 'another version of go-plugin': '2|1|unix|/x|grpc',
    'another version of SPIRE': '1|2|unix|/x|grpc', 'older protocol': '1|1|unix|/x|netrpc', 'on a port': '1|1|tcp|127.0.0.1:1234|grpc',
    'no absolute path': '1|1|unix|x|grpc', TLS: '1|1|unix|/x|grpc|MIIB'
  }
  for (const [why, line] of Object.entries(refused)) {
    t.throws(() => parseHandshake(line), { code: 'plugin_handshake_failed', message: new RegExp(why) }, line)
  }
  t.throws(() => parseHandshake('secret-word'), { message: /^(?!.*secret-word)/ }, 'the line is not quoted')
})

void t.test('programs that are no plugins are refused, and have ended', async t => {
  const refused: Record<string, [string, RegExp]> = {
    'echo garbage; sleep 600': ['plugin_handshake_failed', /no handshake/],
    'exit 3': ['plugin_not_started', /exit code 3.*is it a plugin of the type WorkloadAttestor/],
    'kill -9 $$': ['plugin_not_started', /ended by SIGKILL/],
    'head -c 5000 /dev/zero | tr "\\0" x; echo; sleep 600': ['plugin_handshake_failed', /longer than 4096/],
    'head -c 50000 /dev/zero; exec sleep 600': ['plugin_handshake_failed', /longer than 4096/]
  }
  for (const [script, [code, message]] of Object.entries(refused)) {
    const { started } = await start(t, script)
    await t.rejects(started, { code, message }, script)
  }
  const missing = PluginProcess.start({
    type: 'X', program: programOf('/nowhere/plugin', []), folder: t.testdir(), clock: pluginHost().host.clock, log: pluginHost().host.log
  }, signal)
  await t.rejects(missing, { code: 'plugin_not_started', message: '/nowhere/plugin cannot be run: ENOENT' })
})

void t.test('one that says nothing is given up after a minute', async t => {
  const clock = new ManualClock()
  const { started } = await start(t, 'exec sleep 600', undefined, clock)
  const refused = t.rejects(started, { code: 'plugin_not_started', message: /did not say within 60 s/ })
  let isOver = false
  void refused.then(() => { isOver = true })
  await eventually('it to be given up', async () => {
    await clock.advance(60_000)
    return isOver
  })
  await refused
})

void t.test('what a plugin is told, and its checksum', async t => {
  const said = '$WorkloadAttestor $PLUGIN_PROTOCOL_VERSIONS $PLUGIN_UNIX_SOCKET_DIR'
  const script = `echo "{\\"@level\\":\\"warn\\",\\"@message\\":\\"${said}\\"}" >&2; ` +
    'echo "1|1|unix|/x/y|grpc|"; exec sleep 600'
  const sum = createHash('sha256').update(await readFile('/bin/sh')).digest('hex')
  const { started, lines } = await start(t, script, sum)
  const process = await started
  t.equal(process.socketPath, '/x/y')
  await eventually('its line', () => lines.some(({ msg }) => String(msg).startsWith('plugin: WorkloadAttestor 1 /')))
  t.equal(lines.find(({ msg }) => String(msg).startsWith('plugin: '))?.['level'], 'warn')
  process.kill()
  t.equal(await process.ended, 'ended by SIGKILL')

  const dir = t.testdir({ empty: {} })
  const other = join(dir, 'changed')
  await writeFile(other, '#!/bin/sh\ntouch "$1"\n')
  await chmod(other, 0o755)
  const folder = join(dir, 'empty')
  const program = { ...programOf(other, [join(folder, 'ran')]), checksum: sum }
  const { host } = pluginHost()
  const changed = PluginProcess.start({ type: 'X', program, folder, clock: host.clock, log: host.log }, signal)
  await t.rejects(changed, { code: 'plugin_checksum_differs' })
  t.strictSame(await readdir(folder), [], 'it did not run')
})

void t.test('what plugins write', async t => {
  const { log, lines } = capturedLog()
  const write = pluginLog(log)
  write('{"@level":"error","@message":"m","@timestamp":"x","@module":"acme","token":"s","n":1}')
  const odd = ['', '{"@level":"odd","@message":"m"}', '{"@level":"info"}', '{broken', 'null', '[DEBUG] x', 'panic: no', 'goroutine 1']
  for (const line of odd) write(line)
  t.match(lines, [
    { level: 'error', msg: 'plugin: m', fields: { module: 'acme', n: 1 } }, { level: 'debug' }, { level: 'debug' },
    { level: 'debug', line: '{broken' }, { level: 'debug', line: 'null' }, { level: 'debug' },
    { level: 'error', line: 'panic: no' }, { level: 'error', line: 'goroutine 1' }
  ])
  t.equal(lines.length, 8)
  const file = join(t.testdir(), 'log')
  pluginLog(createLogger({ level: 'info', file }))('{"@level":"info","@message":"m","token":"secret-value"}')
  t.notMatch(await readFile(file, 'utf8'), 'secret-value', 'fields by the names of secrets are not shown')
})

void t.test('lines are cut, and characters are not', async t => {
  const lines: string[] = []
  const reader = new LineReader(line => lines.push(line), 4)
  const bytes = Buffer.from('äöü\n123456\n\nend')
  for (const byte of bytes) reader.write(Uint8Array.of(byte))
  reader.end()
  t.strictSame(lines, ['äöü', '1234', '', 'end'])
})
