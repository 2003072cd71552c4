import t from 'tap'
import { PushedState } from '../../src/agent/pushed-state.ts'
import { Revocations, type KnownRevocation, type RevokedSet } from '../../src/agent/revocations.ts'
import { silentLogger } from '../../src/runtime/logger.ts'
import { decodeMessage } from '../../src/wire/decode-message.ts'
import { encodeMessage } from '../../src/wire/encode-message.ts'
import { SyncResponse, type SyncResponseInit } from '../../src/wire/generated/agent-sync.ts'
import { settle } from '../fakes/clock.ts'
import { idOf } from '../fakes/entries.ts'

const later = new Date('2026-01-01T01:00:00Z')
const digest = (byte: string) => byte.repeat(32)
const known = (id: string, more: Partial<KnownRevocation> = {}): KnownRevocation =>
  ({ id, kind: 'svid', subject: idOf(`/${id}`), certificateDigests: [digest('aa')], expiresAt: later, ...more })
const change = (revocations: readonly KnownRevocation[], { whole = false, removed = [] as readonly string[] } = {}) =>
  ({ whole, revocations: new Map(revocations.map(revocation => [revocation.id, revocation])), removedIds: new Set(removed) })
const content = ({ digests, ids }: RevokedSet) => ({ digests: [...digests], ids: [...ids] })

void t.test('whom a node must not let in', async t => {
  const revocations = new Revocations()
  const seen: RevokedSet[] = []
  const stop = new AbortController()
  const watching = (async () => { for await (const set of revocations.watch(stop.signal)) seen.push(set) })().catch(() => {})
  t.notOk(revocations.take(change([], { whole: true })), 'nothing, as before')
  t.ok(revocations.take(change([known('a'), known('b', { certificateDigests: [digest('aa'), digest('bb')] })])))
  t.strictSame(content(revocations.current), { digests: [digest('aa'), digest('bb')], ids: [] })
  t.ok(revocations.take(change([known('c', { kind: 'spiffe_id' })], { removed: ['b'] })))
  t.strictSame(content(revocations.current), { digests: [digest('aa')], ids: [idOf('/c')] }, 'a digest as long as one names it')
  t.ok(revocations.take(change([known('d', { kind: 'node', certificateDigests: [digest('dd')] })], { whole: true })))
  t.strictSame(content(revocations.current), { digests: [digest('dd')], ids: [] }, 'what the whole does not name is gone')
  t.notOk(revocations.expire(new Date(later.getTime() - 1)))
  t.ok(revocations.expire(later), 'by the clock, where no server says so')
  t.strictSame(content(revocations.current), { digests: [], ids: [] })
  await settle()
  stop.abort()
  await watching
  t.equal(seen.at(-1)?.revision, revocations.current.revision, 'who watches has the newest')
})

void t.test('revocations come in messages, and are taken over as a whole step', async t => {
  const state = new PushedState(idOf('/spire/agent/x/n'), silentLogger)
  const take = (message: SyncResponseInit) => state.take(decodeMessage(SyncResponse, encodeMessage(SyncResponse, message)))
  const cursor = { epoch: 'e', number: 1n }
  const bytes = (byte: string) => Buffer.from(digest(byte), 'hex')
  const part = { id: 'r', kind: 'node', subject: idOf('/spire/agent/x/m'), expiresAt: BigInt(later.getTime()) }
  const begun = { whole: true, revocations: [{ ...part, certificateDigests: [bytes('aa')] }] }
  t.equal(take({ cursor, more: true, revocations: begun }), undefined)
  const step = take({ cursor, revocations: { revocations: [{ ...part, certificateDigests: [bytes('bb')] }], removedIds: ['x'] } })
  t.strictSame(step?.revocations, change([
    known('r', { kind: 'node', subject: idOf('/spire/agent/x/m'), certificateDigests: [digest('aa'), digest('bb')] })
  ], { whole: true, removed: ['x'] }), 'parts of one belong together')
  t.equal(take({ cursor })?.revocations, undefined, 'nothing is said: nothing changed')
  t.match(take({ cursor, snapshot: true })?.revocations, { whole: true, revocations: new Map() }, 'but in a snapshot: none stands')

  const broken: Record<string, object> = {
    'a kind of later versions': { ...part, kind: 'cluster' },
    'no ID': { ...part, subject: 'web' },
    'another digest': { ...part, certificateDigests: [Buffer.alloc(20)] },
    'no name': { ...part, id: '' }
  }
  for (const [what, revocation] of Object.entries(broken)) {
    t.throws(() => take({ cursor, revocations: { revocations: [revocation] } }), { code: 'message_malformed' }, what)
  }
})
