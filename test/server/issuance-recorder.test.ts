import t from 'tap'
import type { IssuedX509Svid } from '../../src/ca/certificate-authority.ts'
import { createMetrics } from '../../src/runtime/metrics.ts'
import { IssuanceRecorder } from '../../src/server/issuance-recorder.ts'
import { SpiffeError } from '../../src/spiffe/errors.ts'
import type { IssuedSvid, RefusedSvids } from '../../src/storage/issued-svid-store.ts'
import { capturedLog } from '../fakes/captured-log.ts'
import { ManualClock, settle } from '../fakes/clock.ts'
import { idOf } from '../fakes/entries.ts'

const node = idOf('/spire/agent/join_token/node')
const svid = (name: string): IssuedX509Svid => ({
  id: idOf(`/${name}`), chain: [Buffer.from(name)], notAfter: new Date('2026-01-01T01:00:00Z'), serialNumber: '1'
})
const away = () => new SpiffeError('datastore_unavailable', 'away')

/** A recorder on a database whose writes end when the test says so. */
function setUp (t: { teardown (after: () => unknown): void }, mostUnwritten?: number) {
  const clock = new ManualClock()
  const { log, lines } = capturedLog()
  const writes: Array<{ readonly ids: string[], end (refused?: RefusedSvids): void, fail (error: unknown): void }> = []
  const late: string[] = []
  const state = { down: false, held: false }
  const idsOf = (svids: readonly IssuedSvid[]) => svids.map(({ spiffeId }) => new URL(spiffeId).pathname)
  const recorder = new IssuanceRecorder({
    replicaId: 'r',
    clock,
    log,
    metrics: createMetrics({ prefix: 'test' }),
    ...mostUnwritten === undefined ? {} : { mostUnwritten },
    store: {
      record: svids => new Promise<RefusedSvids>((resolve, reject) => {
        if (state.down) reject(away())
        else if (!state.held) resolve(new Map(svids.flatMap(svid => svid.spiffeId === idOf('/bad') ? [[svid, 'id' as const]] : [])))
        else writes.push({ ids: idsOf(svids), end: (refused = new Map()) => resolve(refused), fail: reject })
      }),
      async recordLate (svids) {
        if (state.down) throw away()
        late.push(...idsOf(svids))
      },
      findByDigest: async () => undefined,
      findBySerial: async () => [],
      prune: async () => 0
    }
  })
  const stop = new AbortController()
  const running = recorder.run(stop.signal).catch(() => {})
  const end = async () => { stop.abort(new Error('over')); await running }
  t.teardown(end)
  return { recorder, clock, state, writes, late, lines, end }
}

void t.test('what is signed at the same time is written together, and answered once it is durable', async t => {
  const { recorder, state, writes } = setUp(t)
  state.held = true
  const answered: string[] = []
  const record = (name: string) => void recorder.recordOne(svid(name), node).then(() => answered.push(name))
  record('a')
  record('b')
  record('c')
  await settle()
  t.strictSame(writes.map(({ ids }) => ids), [['/a']])
  t.strictSame(answered, [])
  writes[0]?.end()
  await settle()
  t.strictSame(answered, ['a'])
  t.strictSame(writes.map(({ ids }) => ids), [['/a'], ['/b', '/c']], 'those that came meanwhile share the next write')
  writes[1]?.end()
  await settle()
  t.strictSame(answered, ['a', 'b', 'c'])
})

void t.test('what is revoked meanwhile is not given out', async t => {
  const { recorder } = setUp(t)
  const refused = await recorder.record([svid('good'), svid('bad')], node)
  t.strictSame(refused.map(refusal => refusal?.code), [undefined, 'spiffe_id_revoked'])
  await t.rejects(recorder.recordOne(svid('bad'), undefined), { code: 'spiffe_id_revoked' })
  t.strictSame(await recorder.record([], node), [])
})

void t.test('while the database is away records wait, and are written when it is back', async t => {
  const { recorder, clock, state, late, lines } = setUp(t)
  state.down = true
  await recorder.recordOne(svid('a'), node)
  await recorder.recordOne(svid('b'), undefined)
  t.equal(recorder.unwritten, 2)
  t.equal(lines.filter(({ msg }) => String(msg).includes('cannot be recorded; the records wait')).length, 1, 'told once')
  await clock.advance(5_000)
  t.equal(recorder.unwritten, 2)
  state.down = false
  await clock.advance(1_000)
  t.strictSame(late, ['/a', '/b'])
  t.equal(recorder.unwritten, 0)
  t.match(lines.at(-1), { svids: 2, msg: /are recorded/ })
})

void t.test('what waits is bounded: beyond that nothing is given out', async t => {
  const { recorder, state } = setUp(t, 2)
  state.down = true
  await recorder.record([svid('a'), svid('b')], node)
  await t.rejects(recorder.recordOne(svid('c'), node), { code: 'datastore_unavailable' })
  t.equal(recorder.unwritten, 2)
})

void t.test('any other failure is the caller\'s: nothing is given out', async t => {
  const { recorder, state, writes } = setUp(t)
  state.held = true
  const answer = recorder.recordOne(svid('a'), node)
  await settle()
  writes[0]?.fail(new SpiffeError('datastore_corrupt', 'broken'))
  await t.rejects(answer, { code: 'datastore_corrupt' })
  t.equal(recorder.unwritten, 0)
})

void t.test('a server that stops writes what waits, or says what is lost', async t => {
  for (const [down, expected] of [[false, []], [true, [{ svids: 1 }]]] as const) {
    const { recorder, state, late, lines, end } = setUp(t)
    state.down = true
    await recorder.recordOne(svid('a'), node)
    state.down = down
    await end()
    t.strictSame(late, down ? [] : ['/a'])
    const lost = lines.filter(({ msg }) => String(msg).startsWith('the record of X509-SVIDs is lost'))
    t.match(lost, expected)
    t.equal(lost.length, expected.length)
  }
})
