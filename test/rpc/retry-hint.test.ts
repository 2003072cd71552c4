import t from 'tap'
import { EntryIndex } from '../../src/agent/entry-index.ts'
import { SvidCache } from '../../src/agent/svid-cache.ts'
import { toRpcError, toStatusObject } from '../../src/rpc/grpc-status.ts'
import { retryAfterMsOf, RpcError } from '../../src/rpc/rpc-error.ts'
import { toStatus } from '../../src/rpc/status.ts'
import { silentLogger } from '../../src/runtime/logger.ts'
import { SpiffeError } from '../../src/spiffe/errors.ts'
import { ManualClock } from '../fakes/clock.ts'
import { makeEntry } from '../fakes/entries.ts'

/** What a client sees of what a server's handler threw. */
function overTheWire (error: SpiffeError): RpcError {
  const { code, details, metadata } = toStatusObject(toStatus(error, 'r1'))
  return toRpcError(Object.assign(new Error(details), { code, details, metadata }), '/a.B/C')
}

const overloaded = (retryAfterMs: number) => overTheWire(new SpiffeError('server_overloaded', 'too much waits', { retryAfterMs }))

void t.test('a refusal says when to ask again (google.rpc.RetryInfo)', t => {
  t.match(overloaded(7250), { status: 'RESOURCE_EXHAUSTED', code: 'server_overloaded' })
  t.equal(retryAfterMsOf(overloaded(7250), 60_000), 7250)
  t.equal(retryAfterMsOf(overloaded(90_000), 60_000), 60_000, 'within reason')
  t.equal(retryAfterMsOf(overTheWire(new SpiffeError('rate_limited', 'no')), 60_000), undefined)
  t.equal(retryAfterMsOf(new Error('x'), 60_000), undefined)
  t.end()
})

void t.test('the agent asks for SVIDs when it was told to', async t => {
  const clock = new ManualClock()
  const cache = new SvidCache({ keyType: 'ec-p256', maxSize: 100, random: () => 0 }, clock, silentLogger)
  const entry = makeEntry()
  const entries = new EntryIndex([entry])
  let asked = 0
  const signer = { signX509Svids: async () => { asked++; throw overloaded(7250) } }
  const signal = new AbortController().signal
  for (const expected of [7250, 7250]) {
    await cache.sign(cache.due(new Set(), entries), signer, signal, () => {})
    t.equal(cache.nextDueMs() - clock.now().getTime(), expected, 'no sooner, and not later because it failed before')
    await clock.advance(7249)
    t.strictSame(cache.due(new Set(), entries), [])
    await clock.advance(1)
    t.strictSame(cache.due(new Set(), entries), [entry])
  }
  t.equal(asked, 2)
})
