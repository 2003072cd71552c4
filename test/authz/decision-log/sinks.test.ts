import t from 'tap'
import { once } from 'node:events'
import { mkdir, mkdtemp, readFile, rm, rmdir, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { buffer } from 'node:stream/consumers'
import { gunzipSync } from 'node:zlib'
import { BatchingSink, RetryLater, type BatchLimits, type BatchWriter } from '../../../src/authz/decision-log/batching-sink.ts'
import type { DecisionEvent } from '../../../src/authz/decision-log/decision-event.ts'
import { DecisionLog } from '../../../src/authz/decision-log/decision-log.ts'
import { FileWriter } from '../../../src/authz/decision-log/file-writer.ts'
import { Mask } from '../../../src/authz/decision-log/mask.ts'
import { otlpLogs } from '../../../src/authz/decision-log/otlp-logs.ts'
import { otlpSpans } from '../../../src/authz/decision-log/otlp-spans.ts'
import { OtlpWriter } from '../../../src/authz/decision-log/otlp-writer.ts'
import { readEvents } from '../../../src/authz/decision-log/read-events.ts'
import { UploadWriter } from '../../../src/authz/decision-log/upload-writer.ts'
import { ManualClock } from '../../fakes/clock.ts'
import { eventually } from '../../fakes/eventually.ts'
import { decided, Observed } from './decided.ts'

type Tap = Pick<typeof t, 'teardown'>
const settings = { labels: { id: 'node-1' }, mask: new Mask([]) }

/** A log with one sink that runs; stopped at the end of the test, if not before. */
function running (t: Tap, writer: BatchWriter, observer: Observed, limits: BatchLimits = {}) {
  const clock = new ManualClock()
  const sink = new BatchingSink(writer, clock, observer, limits)
  const log = new DecisionLog({ ...settings, sinks: [sink] })
  const stopping = new AbortController()
  const ended = log.run(stopping.signal)
  const stop = async () => { stopping.abort(new Error('stop')); await ended }
  t.teardown(stop)
  return { clock, sink, log, stop }
}

async function folder (t: Tap): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'assay-log-'))
  t.teardown(() => rm(path, { recursive: true, force: true }))
  return path
}

async function eventsIn (path: string): Promise<(DecisionEvent | undefined)[]> {
  const events = []
  for await (const { event } of readEvents(path)) events.push(event)
  return events
}

interface Received { readonly url: string | undefined, readonly headers: Record<string, unknown>, readonly body: Buffer }

/** Answers one status after the other, the last for ever. */
async function receiver (t: Tap, statuses: (number | [number, Record<string, string>, string?])[]) {
  const received: Received[] = []
  const server = createServer((request, response) => {
    void buffer(request).then(body => {
      received.push({ url: request.url, headers: request.headers, body })
      const [status, headers = {}, text = '{}'] = [statuses.length > 1 ? statuses.shift() ?? 200 : statuses[0] ?? 200].flat() as [number]
      response.writeHead(status, headers).end(text)
    })
  }).listen(0, '127.0.0.1')
  t.teardown(() => { server.closeAllConnections(); server.close() })
  await once(server, 'listening')
  return { received, url: `http://127.0.0.1:${(server.address() as AddressInfo).port}` }
}

t.test('a queue has limits, tries again and tells what is lost', async t => {
  const observer = new Observed()
  const written: number[] = []
  let trouble: Error | undefined
  const writer: BatchWriter = { name: 'test', write: async batch => {
    if (trouble !== undefined) throw trouble
    written.push(batch.length)
    return batch.length
  } }
  const { clock, log, sink, stop } = running(t, writer, observer, { buffer: 100, batch: 40, flushMs: 1_000, retryMs: [1_000, 8_000] })
  const record = (count: number) => { for (let i = 0; i < count; i++) log.record(...decided()) }
  record(3)
  await clock.advance(999)
  t.same(written, [], 'waits for others')
  await clock.advance(1)
  t.same(written, [3])
  record(100)
  await clock.advance(0)
  t.same(written, [3, 40, 40], 'whole batches at once')
  await clock.advance(1_000)
  t.same(written, [3, 40, 40, 20])

  trouble = new Error('disk full')
  record(150)
  t.equal(sink.waiting, 100)
  t.same(observer.counts, { full: 50 }, 'beyond the buffer is dropped, and nobody waits')
  await clock.advance(0)
  t.equal(observer.failures.length, 1)
  for (const [pause, failures] of [[1_000, 2], [2_000, 3], [4_000, 4], [8_000, 5], [8_000, 6]] as const) {
    await clock.advance(pause - 1)
    t.equal(observer.failures.length, failures - 1, `not before ${pause} ms`)
    await clock.advance(1)
    t.equal(observer.failures.length, failures)
  }
  trouble = new RetryLater('slow down', 5_000)
  await clock.advance(8_000)
  trouble = undefined
  await clock.advance(9_000)
  t.same(written.slice(4), [40, 40, 20], 'in order, and nothing twice')
  record(5)
  await stop()
  t.equal(written.at(-1), 5, 'what is left is written at the end')

  const stuck = running(t, { name: 'stuck', write: () => Promise.reject(new Error('gone')) }, observer)
  stuck.log.record(...decided())
  await stuck.stop()
  t.match(observer.counts, { stopped: 1 })
})

t.test('a receiver that never answers does not keep the process', async t => {
  const observer = new Observed()
  const write = (_: unknown, signal: AbortSignal) => new Promise<number>((_resolve, reject) => {
    signal.addEventListener('abort', () => reject(new Error('aborted')))
  })
  const { clock, log, stop } = running(t, { name: 'hanging', write }, observer, { closeMs: 5_000 })
  log.record(...decided())
  await clock.advance(1_000)
  const ended = stop()
  await clock.advance(5_000)
  await ended
  t.match(observer.counts, { stopped: 1 })
})

t.test('lines in a file', async t => {
  const observer = new Observed()
  const path = join(await folder(t), 'decisions.log')
  const { clock, log, stop } = running(t, new FileWriter({ path, maxBytes: 2_000, keep: 2 }, settings, observer), observer)
  const sent: string[] = []
  for (let i = 0; i < 12; i++) {
    sent.push(log.record(...decided({ 'x-request-id': `r${i}` })).id)
    await clock.advance(1_000)
    await eventually('it is written', () => observer.counts['written'] === i + 1)
  }
  await stop()
  const files = await Promise.all([`${path}.2`, `${path}.1`, path].map(eventsIn))
  const kept = files.flat().map(event => event?.decision_id)
  t.same(kept, sent.slice(-kept.length), 'the newest, in order, in three files')
  t.ok(kept.length < 12 && kept.length > 4, `${kept.length} are left`)
  for (const file of [path, `${path}.1`]) t.ok((await readFile(file)).length <= 2_000, file)
})

t.test('a disk that fails holds nobody up, and what it tore is no decision', async t => {
  const observer = new Observed()
  const parent = join(await folder(t), 'mounted')
  const path = join(parent, 'decisions.log')
  const { clock, log } = running(t, new FileWriter({ path }, settings, observer), observer, { buffer: 10 })
  for (let i = 0; i < 25; i++) log.record(...decided())
  await clock.advance(1_000)
  await eventually('there is no such folder', () => observer.failures.length >= 1)
  t.same(observer.counts, { full: 15 })
  await mkdir(parent)
  await clock.advance(60_000)
  await eventually('all is written', () => observer.counts['written'] === 10)
  const lines = await readFile(path, 'utf8')
  t.ok(lines.startsWith('\n{'), 'after a failure a line of its own: what came before may be torn')
  t.equal((await eventsIn(path)).length, 10)
  await writeFile(path, '{"decision_id":"torn', { flag: 'a' })
  const again = running(t, new FileWriter({ path }, settings, observer), observer)
  again.log.record(...decided())
  await again.stop()
  const events = await eventsIn(path)
  t.equal(events.length, 12)
  t.equal(events[10], undefined, 'what another process tore')
  t.ok(events[11], 'does not take the next with it')
  await rm(path)
  await rmdir(parent)
})

t.test('uploads as OPA makes them', async t => {
  const observer = new Observed()
  const { received, url } = await receiver(t, [503, [429, { 'retry-after': '3' }], 200])
  const writer = new UploadWriter({ url: `${url}/`, partition: 'node 1', headers: { authorization: 'Bearer t' }, maxBytes: 1_000 },
    settings, observer)
  const { clock, log, stop } = running(t, writer, observer, { retryMs: [1_000, 60_000] })
  const random = Array.from({ length: 40 }, (_, i) => log.record(...decided({ 'x-request-id': `${i}${Math.sin(i)}` })).id)
  await clock.advance(1_000)
  await eventually('503', () => observer.failures.length === 1)
  await clock.advance(1_000)
  await eventually('429', () => observer.failures.length === 2)
  await clock.advance(2_999)
  t.equal(received.length, 2, 'not before the time that was asked for')
  await clock.advance(1)
  await eventually('all is written', async () => { await clock.advance(1_000); return observer.counts['written'] === 40 })
  await stop()
  t.same([...new Set(received.map(({ url }) => url))], ['/logs/node%201'])
  t.match(received.at(-1)?.headers, { 'content-encoding': 'gzip', 'content-type': 'application/json', authorization: 'Bearer t' })
  t.ok(received.length >= 4 && received.every(({ body }) => body.length <= 1_000), `${received.length} uploads, none too large`)
  const events = received.slice(2).flatMap(({ body }) => JSON.parse(gunzipSync(body).toString()) as DecisionEvent[])
  t.same(events.map(({ decision_id: id }) => id), random, 'each once, in order')
})

t.test('what is too large or refused is counted, and does not stop the rest', async t => {
  const observer = new Observed()
  const { received, url } = await receiver(t, [400, 200])
  const { clock, log } = running(t, new UploadWriter({ url, maxBytes: 700 }, settings, observer), observer, { batch: 1 })
  const noise = Array.from({ length: 2_000 }, (_, i) => Math.sin(i).toString(36)).join('')
  log.record(...decided({ noise }))
  log.record(...decided())
  log.record(...decided())
  await eventually('all are dealt with', async () => { await clock.advance(1_000); return observer.counts['written'] === 1 })
  t.same(observer.counts, { too_large: 1, refused: 1, written: 1 })
  t.same(received.map(({ url }) => url), ['/logs', '/logs'])
})

t.test('OpenTelemetry logs', async t => {
  const observer = new Observed()
  const { received, url } = await receiver(t, [[200, {}, '{"partialSuccess":{"rejectedLogRecords":"1"}}'], 200])
  const { clock, log, stop } = running(t, new OtlpWriter(otlpLogs, { url: `${url}/v1/logs` }, settings, observer), observer)
  const traceparent = '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01'
  log.record(...decided({ traceparent, 'x-request-id': 'r1' }))
  log.record(...decided({}, { method: 'POST' }))
  await clock.advance(1_000)
  await eventually('it is sent', () => observer.counts['written'] === 1)
  t.same(observer.counts, { refused: 1, written: 1 }, 'what was rejected of a batch is counted')
  await stop()
  t.equal(received[0]?.url, '/v1/logs')
  const { resourceLogs: [logs] } = JSON.parse(received[0]?.body.toString() ?? '') as { resourceLogs: Record<string, unknown>[] }
  t.match(logs, {
    resource: { attributes: [{ key: 'service.name', value: { stringValue: 'assay' } }, { key: 'id', value: { stringValue: 'node-1' } }] },
    scopeLogs: [{ logRecords: [
      {
        timeUnixNano: '1767225600500000000', severityNumber: 9, traceId: '4bf92f3577b34da6a3ce929d0e0e4736', spanId: '00f067aa0ba902b7',
        body: { stringValue: 'allowed by p/get' }
      },
      { severityNumber: 13, severityText: 'WARN', body: { stringValue: 'denied by no-rule-allows' } }
    ] }]
  })
  const [first] = (logs as { scopeLogs: { logRecords: { attributes: object[] }[] }[] }).scopeLogs[0]?.logRecords ?? []
  for (const attribute of [
    { key: 'assay.decision.allowed', value: { boolValue: true } }, { key: 'server.port', value: { intValue: '80' } },
    { key: 'assay.request.id', value: { stringValue: 'r1' } }
  ]) t.ok(first?.attributes.some(one => JSON.stringify(one) === JSON.stringify(attribute)), attribute.key)
})

t.test('a span for each decision about a request of a sampled trace', async t => {
  const observer = new Observed()
  const { received, url } = await receiver(t, [200])
  const { clock, log, stop } = running(t, new OtlpWriter(otlpSpans, { url: `${url}/v1/traces` }, settings, observer), observer)
  const traceparent = '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01'
  log.record(...decided({ traceparent }))
  log.record(...decided({ traceparent: traceparent.replace(/01$/, '00') }))
  log.record(...decided())
  await clock.advance(1_000)
  await eventually('it is sent', () => observer.counts['written'] === 1)
  await stop()
  t.same(observer.counts, { written: 1 }, 'what is not sampled is no loss')
  t.equal(received[0]?.url, '/v1/traces')
  const sent = JSON.parse(received[0]?.body.toString() ?? '') as { resourceSpans: { scopeSpans: { spans: Record<string, any>[] }[] }[] }
  const spans = sent.resourceSpans[0]?.scopeSpans[0]?.spans ?? []
  t.equal(spans.length, 1)
  const [span] = spans
  t.match(span, {
    traceId: '4bf92f3577b34da6a3ce929d0e0e4736', parentSpanId: '00f067aa0ba902b7', spanId: /^(?!00f067aa0ba902b7)[0-9a-f]{16}$/,
    startTimeUnixNano: '1767225600500000000', kind: 2
  })
  t.ok(BigInt(span?.['endTimeUnixNano']) > BigInt(span?.['startTimeUnixNano']))
  t.ok(JSON.stringify(span?.['attributes']).includes('{"key":"assay.decision.rule","value":{"stringValue":"p/get"}}'))
})
