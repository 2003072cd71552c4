import t from 'tap'
import { AdminAccess } from '../../src/authz/admin/access.ts'
import { revocationHandlers } from '../../src/server/api/revocation-handlers.ts'
import { StandingRevocations } from '../../src/server/standing-revocations.ts'
import { parseTrustDomain } from '../../src/spiffe/trust-domain.ts'
import type { RevocationOrder } from '../../src/storage/revocation-store.ts'
import type { RevokeResponseInit } from '../../src/wire/generated/revocation.ts'
import { fakeCall } from '../fakes/call-context.ts'
import { ManualClock } from '../fakes/clock.ts'
import { idOf } from '../fakes/entries.ts'

void t.test('a token that is signed while an ID is being revoked does not outlive the revocation', async t => {
  const [clock, jwtTtlSeconds] = [new ManualClock(), 300]
  let lastToken = new Date(0)
  const revoke = async (order: RevocationOrder) => {
    // The database waits for others; meanwhile, and at another replica until it looks again, tokens are signed.
    await clock.advance(20_000)
    lastToken = new Date(clock.now().getTime() + jwtTtlSeconds * 1_000)
    const { kind, subject, reason, revokedBy } = order
    return {
      id: 'r', kind, subject, reason, revokedBy, revokedAt: clock.now(), certificateDigests: [],
      expiresAt: 'until' in order ? order.until : order.notAfter
    }
  }
  const { revoke: ask } = revocationHandlers({
    trustDomain: parseTrustDomain('example.org'), store: { revocations: { revoke }, issuedSvids: {} } as never,
    registry: { someEntry: () => false } as never, revocations: new StandingRevocations(), catchUp: async () => {},
    authorizer: { accessOf: () => AdminAccess.unrestricted } as never, defaultX509SvidTtlSeconds: 60,
    defaultJwtSvidTtlSeconds: jwtTtlSeconds, agentTtlSeconds: 3_600, clock
  })
  const request = { spiffeId: { trustDomain: 'example.org', path: '/web' }, svid: undefined, agentId: undefined, until: 0n, reason: '' }
  const { revocation } = await ask(request, fakeCall()) as RevokeResponseInit
  t.equal(revocation?.subject, idOf('/web'))
  t.ok(Number(revocation?.expiresAt) * 1_000 >= lastToken.getTime(), 'it stands until the last of them has expired')
})
