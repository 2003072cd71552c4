import { hostname } from 'node:os'
import t from 'tap'
import { RpcError } from '../../src/rpc/rpc-error.ts'
import { spireMetrics } from '../../src/rpc/spire-metrics.ts'
import { createMetrics } from '../../src/runtime/metrics.ts'
import { SpiffeError } from '../../src/spiffe/errors.ts'
import { testTelemetry } from '../fakes/telemetry.ts'

const names = {
  asked: { kind: 'call', labels: ['trust_domain_id'] }, made: { kind: 'counter' }, held: { kind: 'gauge', labels: ['version'] },
  found: { kind: 'sample' }
} as const

void t.test('names are there from their first value on, with SPIRE\'s words for outcomes and its way with labels', async t => {
  const metrics = createMetrics({ prefix: 'assay_server' })
  const spire = spireMetrics<typeof names>(testTelemetry({}, { beside: metrics }))
  const lines = async () => (await metrics.expose()).split('\n').filter(line => line.startsWith('spire_') && !line.includes('quantile'))
  t.strictSame(await lines(), [], 'nothing happened')
  let held: number | undefined
  spire.gauge('held', () => held, { version: '1.2.3-dev (x)' })
  t.strictSame(await lines(), [], 'there is no value yet')
  held = 4
  const refused = new SpiffeError('entry_not_found', 'there is none')
  const passedOn = new RpcError('RESOURCE_EXHAUSTED', 'too many', { method: '/s/M' })
  for (const error of [undefined, undefined, refused, passedOn, new Error('a bug')]) {
    spire.call('asked', { durationMs: 2, error }, { trust_domain_id: 'td.example.org' })
  }
  spire.count('made', 3)
  spire.sample('found', 5)
  const host = `host="${hostname()}"`
  const shown = await lines()
  for (const line of [
    `spire_server_held{version="1_2_3_dev_x_",${host}} 4`,
    `spire_server_asked{trust_domain_id="td_example_org",status="OK",${host}} 2`,
    `spire_server_asked{trust_domain_id="td_example_org",status="NotFound",${host}} 1`,
    `spire_server_asked{trust_domain_id="td_example_org",status="ResourceExhausted",${host}} 1`,
    `spire_server_asked{trust_domain_id="td_example_org",status="Unknown",${host}} 1`,
    `spire_server_asked_elapsed_time_sum{trust_domain_id="td_example_org",status="OK",${host}} 4`,
    `spire_server_made{${host}} 3`,
    `spire_server_found_count{${host}} 1`
  ]) t.ok(shown.includes(line), line)
})

void t.test('EnableHostnameLabel: false leaves the label away', async t => {
  const metrics = createMetrics({ prefix: 'assay_server' })
  spireMetrics<typeof names>(testTelemetry({ hostLabel: false }, { beside: metrics })).count('made')
  t.match(await metrics.expose(), /^spire_server_made 1$/m)
})
