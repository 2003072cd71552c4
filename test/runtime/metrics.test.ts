import { once } from 'node:events'
import { connect } from 'node:net'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import t from 'tap'
import { silentLogger } from '../../src/runtime/logger.ts'
import { createMetrics, expositionType, serveMetrics } from '../../src/runtime/metrics.ts'

void t.test('counts, gauges and histograms', async t => {
  const metrics = createMetrics({ prefix: 'assay_test' })
  const calls = metrics.counter({ name: 'calls_total', help: 'Calls', labels: ['method', 'code'] })
  calls.add(1, { method: 'a', code: 'OK' })
  calls.add(2, { method: 'a', code: 'OK' })
  calls.add(1, { method: 'b"\n\\', code: 'INTERNAL' })
  const plain = metrics.counter({ name: 'plain_total', help: 'Plain' })
  plain.add()
  plain.add(4)
  const streams = metrics.gauge({ name: 'streams', help: 'Streams', labels: ['kind'] })
  streams.add(1, { kind: 'sotw' })
  streams.add(-1, { kind: 'sotw' })
  streams.set(7, { kind: 'delta' })
  let entries = 1
  metrics.gauge({ name: 'entries', help: 'Entries' }).collect(() => entries)
  metrics.gauge({ name: 'views', help: 'Views', collect: () => entries * 10 })
  const seconds = metrics.histogram({ name: 'seconds', help: 'Seconds', buckets: [0.1, 1] })
  for (const value of [0.05, 0.5, 5]) seconds.observe(value)
  metrics.histogram({ name: 'labelled_seconds', help: 'Seconds', labels: ['outcome'] }).observe(0.3, { outcome: 'ok' })

  entries = 3
  const lines = (await metrics.expose()).split('\n')
  for (const line of [
    '# TYPE assay_test_calls_total counter',
    'assay_test_calls_total{method="a",code="OK"} 3',
    'assay_test_calls_total{method="b\\"\\n\\\\",code="INTERNAL"} 1',
    'assay_test_plain_total 5',
    'assay_test_streams{kind="sotw"} 0',
    'assay_test_streams{kind="delta"} 7',
    'assay_test_entries 3',
    'assay_test_views 30',
    'assay_test_seconds_bucket{le="0.1"} 1',
    'assay_test_seconds_bucket{le="1"} 2',
    'assay_test_seconds_bucket{le="+Inf"} 3',
    'assay_test_seconds_count 3',
    'assay_test_labelled_seconds_bucket{le="0.5",outcome="ok"} 1'
  ]) t.ok(lines.includes(line), line)
  t.match(lines.join('\n'), /^assay_test_process_resident_memory_bytes [1-9]\d+/m)
  t.match(lines.join('\n'), /^assay_test_process_cpu_seconds [\d.]+/m)
  t.throws(() => metrics.counter({ name: 'plain_total', help: 'again' }), 'a name is used once')
})

void t.test('two sets of metrics do not meet', async t => {
  const [a, b] = [createMetrics({ prefix: 'a' }), createMetrics({ prefix: 'b' })]
  a.counter({ name: 'x_total', help: 'x' }).add()
  t.notMatch(await b.expose(), 'x_total')
})

void t.test('served over HTTP', async t => {
  const metrics = createMetrics({ prefix: 'assay_test' })
  metrics.counter({ name: 'served_total', help: 'Served' }).add()
  let broken = false
  metrics.gauge({ name: 'fragile', help: 'Fragile' }).collect(() => { if (broken) throw new Error('no value'); return 1 })
  const stop = new AbortController()
  const { promise: listening, resolve: onListening } = Promise.withResolvers<number>()
  const serving = serveMetrics(metrics, { host: '127.0.0.1', port: 0, onListening }, silentLogger, stop.signal)
  const port = await listening
  const url = `http://127.0.0.1:${port}`

  const answer = await fetch(`${url}/metrics`)
  t.equal(answer.status, 200)
  t.equal(answer.headers.get('content-type'), expositionType)
  t.match(await answer.text(), 'assay_test_served_total 1')
  t.equal((await fetch(`${url}/metrics?x=1`)).status, 200)
  const head = await fetch(`${url}/metrics`, { method: 'HEAD' })
  t.strictSame([head.status, await head.text()], [200, ''])
  for (const path of ['/', '/metrics/', '/metricsx', '/../metrics/x', '//metrics']) t.equal((await fetch(url + path)).status, 404, path)
  const post = await fetch(`${url}/metrics`, { method: 'POST', body: 'x'.repeat(100_000) })
  t.strictSame([post.status, post.headers.get('allow')], [405, 'GET, HEAD'])
  broken = true
  t.equal((await fetch(`${url}/metrics`)).status, 500, 'a value that cannot be read')
  broken = false
  t.equal((await fetch(`${url}/metrics`)).status, 200, 'and it goes on')

  const garbage = connect(port, '127.0.0.1')
  garbage.write('\x16\x03\x01garbage\r\n\r\n')
  garbage.resume()
  await once(garbage, 'close')
  const idle = connect(port, '127.0.0.1')
  await once(idle, 'connect')
  idle.on('error', () => {})
  stop.abort()
  await serving
  await t.rejects(fetch(`${url}/metrics`), 'stopped, also with an idle connection open')
  idle.destroy()
})

void t.test('a taken port is an error', async t => {
  const taken = createServer().listen(0, '127.0.0.1')
  await once(taken, 'listening')
  t.teardown(() => taken.close())
  const { port } = taken.address() as AddressInfo
  const options = { host: '127.0.0.1', port }
  await t.rejects(serveMetrics(createMetrics({ prefix: 'x' }), options, silentLogger, new AbortController().signal), { code: 'EADDRINUSE' })
  await serveMetrics(createMetrics({ prefix: 'x' }), options, silentLogger, AbortSignal.abort())
})
