import { hash } from 'node:crypto'
import t from 'tap'
import { PushedState } from '../../src/agent/pushed-state.ts'
import { silentLogger } from '../../src/runtime/logger.ts'
import { revocationPages } from '../../src/server/api/revocation-pages.ts'
import type { Revocation, RevocationKind } from '../../src/spiffe/revocation.ts'
import { decodeMessage } from '../../src/wire/decode-message.ts'
import { encodeMessage } from '../../src/wire/encode-message.ts'
import { SyncResponse } from '../../src/wire/generated/agent-sync.ts'
import { idOf } from '../fakes/entries.ts'

const at = new Date('2026-01-01T00:00:00Z')
const revocation = (id: string, kind: RevocationKind, digests: number): Revocation => ({
  id, kind, subject: idOf(`/${id}`), reason: '', revokedBy: '', revokedAt: at, expiresAt: at,
  certificateDigests: Array.from({ length: digests }, (_, n) => hash('sha256', `${id} ${n}`))
})

void t.test('revocations of any size come in messages that fit, and an agent has them as they are', async t => {
  const all = [revocation('node', 'node', 45_000), revocation('id', 'spiffe_id', 50_000), ...Array.from({ length: 5_000 }, (_, n) =>
    revocation(`svid-${n}/${'x'.repeat(n % 10 === 0 ? 1_900 : 10)}`, 'svid', 1))]
  const pages = revocationPages({ whole: true, revocations: all, removedIds: ['gone'] })
  const agent = new PushedState(idOf('/spire/agent/x/n'), silentLogger)
  const steps = pages.map((revocations, index) => {
    const bytes = encodeMessage(SyncResponse, { cursor: { epoch: 'e', number: 1n }, more: index < pages.length - 1, revocations })
    t.ok(bytes.length < 1_100_000, `${bytes.length} bytes: gRPC takes four million`)
    return agent.take(decodeMessage(SyncResponse, bytes))
  })
  const change = steps.at(-1)?.revocations
  t.strictSame([change?.whole, [...change?.removedIds ?? []]], [true, ['gone']])
  t.equal(change?.revocations.size, all.length)
  for (const { id, kind, certificateDigests } of all) {
    const held = change?.revocations.get(id)?.certificateDigests
    if (JSON.stringify(held) !== JSON.stringify(kind === 'spiffe_id' ? [] : certificateDigests)) t.fail(`${id} arrived differently`)
  }
  t.strictSame(revocationPages({ whole: true, revocations: [], removedIds: [] }), [{ whole: true, removedIds: [], revocations: [] }],
    'that nothing is revoked is said too')
})
