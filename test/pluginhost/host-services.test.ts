import { unlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { agentStore, identityProvider, type OwnIdentity } from '../../src/pluginhost/host-services.ts'
import { startExternalNodeVerifier } from '../../src/pluginhost/node-verifier.ts'
import { isNameOf } from '../../src/rpc/spire-metrics.ts'
import { pluginMetrics } from '../../src/pluginhost/plugin-metrics.ts'
import { startExternalWorkloadAttestor } from '../../src/pluginhost/workload-attestor.ts'
import { createMetrics } from '../../src/runtime/metrics.ts'
import { createTestAuthority } from '../fakes/authority.ts'
import { capturedLog } from '../fakes/captured-log.ts'
import { ManualClock } from '../fakes/clock.ts'
import { eventually } from '../fakes/eventually.ts'
import { pluginHost, programOf } from '../fakes/plugin-host.ts'
import { testTelemetry } from '../fakes/telemetry.ts'
import { buildGoPlugin, withoutGo } from '../interop/go-programs.ts'

t.setTimeout(300_000)
const { signal } = new AbortController()
const binary = withoutGo === false ? await buildGoPlugin() : ''
const caller = { pid: process.pid, uid: 0, gid: 0, check: () => {} }

void t.test('what plugins measure stands beside our own metrics, under SPIRE\'s names', { skip: withoutGo }, async t => {
  const metrics = createMetrics({ prefix: 'assay_agent', ofProcess: false })
  const { host, lines } = pluginHost()
  const telemetry = testTelemetry({ hostLabel: false }, { prefix: 'spire_agent', beside: metrics })
  const hostServices = [pluginMetrics(telemetry, { ...host, isOurs: isNameOf({}) })]
  const program = programOf(binary, ['WorkloadAttestor'], { label: 'blue' })
  await using attestor = await startExternalWorkloadAttestor('acme', program, { ...host, hostServices }, signal)
  for (let call = 0; call < 2; call++) await attestor.attest(caller, signal)
  const shown = await metrics.expose()
  for (const line of [
    'spire_agent_acme_asked{label="blue"} 4', 'spire_agent_acme_queue_length 2.5', 'spire_agent_acme_size{quantile="0.5",label="blue"} 7',
    'spire_agent_acme_size_count{label="blue"} 2', 'spire_agent_acme_elapsed_time_count 2'
  ]) t.ok(shown.split('\n').includes(line), line)
  const sum = Number(/^spire_agent_acme_elapsed_time_sum (.*)$/m.exec(shown)?.[1])
  // Our clock has no parts of a millisecond: each may be less by one.
  t.ok(sum >= 119_998 && sum < 600_000, `two times of a minute, in milliseconds: ${sum}`)
  t.notMatch(shown, 'acme_key', 'as in SPIRE, Prometheus is shown no keys')
  t.notOk(lines.some(line => 'metric' in line), 'nothing is dropped')
})

void t.test('what cannot be kept is dropped, and said once', async t => {
  const metrics = createMetrics({ prefix: 'assay_server', ofProcess: false })
  const { log, lines } = capturedLog()
  const clock = new ManualClock()
  const { handlers } = pluginMetrics(testTelemetry({ hostLabel: false }, { beside: metrics }), {
    isOurs: isNameOf({ started: { kind: 'gauge' }, 'svid.rotate': { kind: 'call' } }), clock, log
  })
  // That none is refused is part of each of these.
  const call = async (method: string, key: string[], more: object) =>
    await handlers[method]!({ key, labels: [], ...more } as never, undefined as never)
  const labels = (...names: string[]) => names.map(name => ({ name, value: 'x' }))
  await call('incrCounter', ['a'], { val: 1, labels: labels('b') })
  const dropped: ReadonlyArray<readonly [why: RegExp, method: string, key: string[], more: object]> = [
    [/only grows/, 'incrCounter', ['less'], { val: -1 }], [/only grows/, 'incrCounter', ['none'], { val: NaN }],
    [/no name/, 'setGauge', [], { val: 1 }], [/long one/, 'setGauge', ['n'.repeat(201)], { val: 1 }],
    [/our own/, 'setGauge', ['rpc', 'x'], { val: 1 }], [/our own/, 'setGauge', ['started'], { val: 1 }],
    [/our own/, 'addSample', ['svid', 'rotate', 'elapsed_time'], { val: 1 }],
    [/our own/, 'setGauge', ['svid_rotate_elapsed_time_sum'], { val: 1 }],
    [/name that cannot be/, 'addSample', ['c'], { val: 1, labels: labels('quantile') }],
    [/name that cannot be/, 'addSample', ['d'], { val: 1, labels: labels('__x') }],
    [/longer than 200/, 'addSample', ['e'], { val: 1, labels: [{ name: 'x', value: 'v'.repeat(201) }] }],
    [/other labels/, 'incrCounter', ['a'], { val: 1, labels: labels('c') }]
  ]
  for (const [why, method, key, more] of dropped) {
    for (let time = 0; time < 2; time++) await call(method, key, more)
    t.match(lines.splice(0), [{ level: 'warn', why }], `${why.source}: once`)
  }
  t.match((await metrics.expose()).split('\n').filter(line => line.startsWith('spire_')), ['spire_server_a{b="x"} 1'])
  await call('incrCounter', ['a'], { val: 1 })
  await call('measureSince', ['took'], { time: BigInt(clock.now().getTime() - 1_500) * 1_000_000n })
  t.match(await metrics.expose(), /^spire_server_a 1$[^]*^spire_server_took_sum 1500$/m, 'labels may be left out; the host\'s clock counts')
  await call('measureSince', ['at.once'], { time: BigInt(clock.now().getTime()) * 1_000_000n + 400_000n })
  t.match(await metrics.expose(), /^spire_server_at_once_sum 0$/m, 'what began in this millisecond has not ended before it')
  for (let index = 0; index < 600; index++) await call('setGauge', [`g${index}`], { val: 1 })
  t.equal((await metrics.expose()).match(/^# TYPE spire_server_\w+ gauge$/gm)?.length, 497, 'names have an end')
  await call('setGauge', ['g1'], { val: 2 })
  t.match(await metrics.expose(), /^spire_server_g1 2$/m, 'those that are known go on')
  for (let index = 0; index < 5_100; index++) await call('incrCounter', ['a'], { val: 1, labels: [{ name: 'b', value: `${index}` }] })
  t.equal((await metrics.expose()).match(/^spire_server_a\{/gm)?.length, 4_500, 'and so have series')
})

void t.test('a server\'s plugin may show itself as the server', { skip: withoutGo }, async t => {
  let own: OwnIdentity | undefined
  const { host } = pluginHost({ hostServices: [agentStore(async () => false), identityProvider(() => own)] })
  await using verifier = await startExternalNodeVerifier('tpm', programOf(binary, ['ServerNodeAttestor'], { label: 'tpm' }), host, signal)
  const exchange = { signal, address: undefined, challenge: async () => Buffer.from('answer to who?') }
  await t.rejects(verifier.verify(Buffer.from('node'), exchange), { message: /has no identity yet/ }, 'before there is one')
  const authority = await createTestAuthority('example.org')
  own = { ...await authority.issue('/spire/server'), bundle: authority.bundle }
  t.match(await verifier.verify(Buffer.from('node'), exchange), {
    selectors: ['node:node', 'known:false', 'server:spiffe://example.org/spire/server']
  }, 'chain, key and bundle belong together')
})

void t.test('plugin_data_file is read again when the operator says so', { skip: withoutGo }, async t => {
  const file = join(t.testdir(), 'acme.hcl')
  await writeFile(file, 'label = "blue"')
  const listeners = new Set<() => void>()
  const { host, lines } = pluginHost({
    onReconfigure: (listener, signal) => {
      listeners.add(listener)
      signal.addEventListener('abort', () => listeners.delete(listener), { once: true })
    }
  })
  const tell = async (msg: string) => {
    lines.splice(0)
    for (const listener of listeners) listener()
    await eventually(msg, () => lines.some(line => line.msg === msg))
  }
  {
    const program = { ...programOf(binary, ['WorkloadAttestor']), data: { file } }
    await using attestor = await startExternalWorkloadAttestor('acme', program, host, signal)
    const label = async () => (await attestor.attest(caller, signal)).find(({ value }) => value.startsWith('label:'))?.value
    t.equal(await label(), 'label:blue')
    await tell('plugin_data_file is as it was: plugin stays as it is')
    await writeFile(file, 'label = "green"')
    await tell('plugin was configured anew')
    t.equal(await label(), 'label:green')
    const failed = 'plugin could not be configured anew, and stays as it is'
    await writeFile(file, 'refuse = "this"')
    await tell(failed)
    t.match(lines.find(({ msg }) => msg === failed), { level: 'error', err: { message: /refuse: this/ } })
    t.equal(await label(), 'label:green', 'what it refuses changes nothing')
    await unlink(file)
    await tell(failed)
    t.equal(await label(), 'label:green', 'nor does a file that is gone')
    await writeFile(file, 'label = "red"')
    await tell('plugin was configured anew')
    t.equal(await label(), 'label:red')
  }
  t.equal(listeners.size, 0, 'one that is closed listens no more')
  await using fixed = await startExternalWorkloadAttestor('acme', programOf(binary, ['WorkloadAttestor'], { label: 'x' }), host, signal)
  t.equal(listeners.size, 0, `plugin_data is not read again by ${fixed.name}`)
})
