import { hostname } from 'node:os'
import t from 'tap'
import { createMetrics } from '../../../src/runtime/metrics.ts'
import type { TelemetryConfig } from '../../../src/rpc/telemetry/telemetry-config.ts'
import { usualTelemetry } from '../../../src/rpc/telemetry/telemetry-config.ts'
import { ManualClock } from '../../fakes/clock.ts'
import { eventually } from '../../fakes/eventually.ts'
import { openReceiver, testTelemetry } from '../../fakes/telemetry.ts'

const host = hostname()

/** What Prometheus is shown after a few deeds. */
async function shown (config: Partial<TelemetryConfig>): Promise<readonly string[]> {
  const metrics = createMetrics({ prefix: 'assay_server', ofProcess: false })
  metrics.gauge({ name: 'held', help: 'ours' }).set(1)
  await using telemetry = testTelemetry(config, { beside: metrics })
  telemetry.count('rpc.agent.v1.agent.attest_agent', 1, { status: 'OK' })
  telemetry.count('rpc.agent.v1.agent.attest_agent', 2, { status: 'NotFound' })
  telemetry.count('rpc.bundle.count', 4, { status: 'OK' })
  telemetry.gauge('started', 1, { version: '1.0-dev', trust_domain_id: 'example.org' })
  telemetry.watch('uptime_in_ms', () => 7)
  return (await metrics.expose()).split('\n').filter(line => line !== '' && !line.startsWith('#'))
}

const filters = (some: Partial<TelemetryConfig['filters']>) => ({ filters: { ...usualTelemetry.filters, ...some } })
const all = [
  'assay_server_held 1', `spire_server_rpc_agent_v1_agent_attest_agent{status="OK",host="${host}"} 1`,
  `spire_server_rpc_agent_v1_agent_attest_agent{status="NotFound",host="${host}"} 2`,
  `spire_server_rpc_bundle_count{status="OK",host="${host}"} 4`,
  `spire_server_started{version="1_0_dev",trust_domain_id="example_org",host="${host}"} 1`, `spire_server_uptime_in_ms{host="${host}"} 7`
]

void t.test('names and labels have SPIRE\'s defaults, and what the configuration says instead (spire-surface §6.4)', async t => {
  t.strictSame(await shown({}), all)
  t.strictSame(await shown({ hostLabel: false }), all.map(line => line.replace(/,?host="[^"]*"/, '').replace('{}', '')))
  t.strictSame(await shown({ trustDomainLabel: true }), all.map(line => line.replace('host=', 'trust_domain="example_org",host=')))
  t.strictSame(await shown({ metricPrefix: 'acme.id-1' }), all.map(line => line.replace('spire_server_', 'acme_id_1_')), 'ours stay')
})

void t.test('the longest prefix that fits a name decides, of equal ones the blocked; ours are told in any case', async t => {
  const without = (...parts: string[]) => all.filter(line => !parts.some(part => line.includes(part)))
  for (const [what, some, expected] of [
    ['allowing alone keeps nothing out', { allowedPrefixes: ['spire_server.rpc'] }, all],
    ['a part of a part is a prefix', { blockedPrefixes: ['spire_server.rpc.b'] }, without('bundle')],
    ['the whole name counts, with its prefix', { blockedPrefixes: ['rpc'] }, all],
    ['the longer wins', { blockedPrefixes: ['spire_server'], allowedPrefixes: ['spire_server.rpc.agent'] }, all.slice(0, 3)],
    ['in either direction', { allowedPrefixes: ['spire_server.rpc'], blockedPrefixes: ['spire_server.rpc.agent'] }, without('attest')],
    ['of equals the blocked', { allowedPrefixes: ['spire_server'], blockedPrefixes: ['spire_server'] }, all.slice(0, 1)],
    ['the empty one fits all', { allowedPrefixes: ['spire_server.up'], blockedPrefixes: [''] }, [all[0], all.at(-1)]]
  ] as const) t.strictSame(await shown(filters(some)), expected, what)
  const renamed = await shown({ metricPrefix: 'acme', ...filters({ blockedPrefixes: ['acme.rpc', 'spire_server'] }) })
  t.equal(renamed.length, 3, 'by the prefix of the configuration')
})

void t.test('labels that are not told are summed over', async t => {
  const noStatus = [
    'assay_server_held 1', `spire_server_rpc_agent_v1_agent_attest_agent{host="${host}"} 3`,
    `spire_server_rpc_bundle_count{host="${host}"} 4`,
    ...all.slice(4)
  ]
  t.strictSame(await shown(filters({ blockedLabels: ['status'] })), noStatus)
  const onlyVersion = [
    'assay_server_held 1', 'spire_server_rpc_agent_v1_agent_attest_agent 3', 'spire_server_rpc_bundle_count 4',
    'spire_server_started{version="1_0_dev"} 1', 'spire_server_uptime_in_ms 7'
  ]
  t.strictSame(await shown(filters({ allowedLabels: ['version', 'status'], blockedLabels: ['status'] })), onlyVersion, 'blocked wins')
})

void t.test('the same goes to each sink, gauges that are asked for too', async t => {
  await using statsd = await openReceiver()
  await using dog = await openReceiver()
  const clock = new ManualClock()
  const environment = { DD_ENTITY_ID: 'pod-1', DD_ENV: 'test', DD_SERVICE: '' }
  let held: number | undefined
  {
    await using telemetry = testTelemetry({
      statsd: [statsd.to], dogStatsd: [dog.to], trustDomainLabel: true, ...filters({ blockedPrefixes: ['spire_server.secret'] })
    }, { clock, environment })
    t.ok(telemetry.isTold)
    telemetry.watch('held', () => held, { version: 'v' })
    telemetry.watch('secret.held', () => 1)
    telemetry.count('made', 2)
    telemetry.count('secret.made', 2)
    telemetry.sample('took.elapsed_time', 1.25, { status: 'OK' })
    telemetry.gauge('big', 1e21, { 'odd name': 'a|b\nc' })
    telemetry.gauge('small', 1.5e-7)
    telemetry.count('lost', NaN)
    await clock.advance(999)
    held = 3.5
    await clock.advance(1)
    held = undefined
    await clock.advance(10_000)
    held = 4
  }
  await eventually('both are read', () => [statsd, dog].every(receiver => receiver.lines().length >= 5))
  t.strictSame(statsd.lines().toSorted(), [
    `spire_server.big.a_b_c.example_org.${host}:1000000000000000000000.000000|g`,
    `spire_server.held.v.example_org.${host}:3.500000|g`,
    `spire_server.made.example_org.${host}:2.000000|c`, `spire_server.small.example_org.${host}:0.000000|g`,
    `spire_server.took.elapsed_time.OK.example_org.${host}:1.250000|ms`
  ].toSorted(), 'what was sent last before the end is there too')
  const tags = (own = '') => `#dd.internal.entity_id:pod-1,env:test,${own}trust_domain:example_org,host:${host}`
  t.strictSame(dog.lines().toSorted(), [
    `spire_server.big:1000000000000000000000|g|${tags('odd_name:a_b_c,')}`, `spire_server.held:3.5|g|${tags('version:v,')}`,
    `spire_server.made:2|c|${tags()}`, `spire_server.small:0.00000015|g|${tags()}`,
    `spire_server.took.elapsed_time:1.250000|ms|${tags('status:OK,')}`
  ].toSorted())
})

void t.test('without a place to go to nothing is told', async t => {
  await using telemetry = testTelemetry()
  t.notOk(telemetry.isTold)
  telemetry.count('made', 1)
  telemetry.watch('held', () => { throw new Error('nobody asks') })
})
