import t from 'tap'
import { statusWarnings, type StatusFacts } from '../../src/server/api/status-warnings.ts'
import type { Replica } from '../../src/storage/replica-store.ts'

const now = new Date('2026-01-31T12:00:00Z')
const ago = (seconds: number) => new Date(now.getTime() - seconds * 1000)
const replica = (id: string, more: Partial<Replica> = {}): Replica => ({
  id, name: `host-${id}`, version: '1', startedAt: ago(900), seenAt: ago(2), cursor: { epoch: 'e', number: 1 },
  facts: { nudged: true, staleMs: 100 }, ...more
})
const active = { authorityId: 'a', notBefore: ago(1000), notAfter: ago(-3000) }
const fine: StatusFacts = {
  replicas: [replica('1'), replica('2')],
  lease: { holder: '1', token: 3, expiresAt: ago(-10) },
  sharedAuthorities: true,
  active: new Map([['x509', active], ['jwt', active]]),
  replicaId: '1',
  nudged: true,
  maxStaleMs: 10_000,
  now
}

void t.test('a status without trouble has no warnings', async t => {
  t.strictSame(statusWarnings(fine), [])
  t.strictSame(statusWarnings({ ...fine, lease: undefined }), [], 'nobody has taken the lease yet')
  t.strictSame(statusWarnings({ ...fine, lease: { holder: '1', token: 3, expiresAt: new Date(0) } }), [], 'the holder gave it up')
  t.strictSame(statusWarnings({ ...fine, sharedAuthorities: false, replicas: [replica('1')] }), [], 'one server needs to share nothing')
})

void t.test('what an operator should look at', async t => {
  const cases: [string, Partial<StatusFacts>, RegExp][] = [
    [
      'a replica is silent',
      { replicas: [replica('1'), replica('2', { seenAt: ago(20), facts: {} })] },
      /^replica 2 \(host-2\) has not reported for 20 s/
    ],
    [
      'a replica is stale',
      { replicas: [replica('1'), replica('2', { facts: { nudged: true, staleMs: 11_000 } })] },
      /^replica 2 .* has not seen the database for 11 s/
    ],
    ['another replica polls', { replicas: [replica('1'), replica('2', { facts: { nudged: false } })] }, /^replica 2 .* polls/],
    ['this replica polls', { nudged: false }, /^replica 1 .* polls; check datastore_direct_url/],
    ['nobody does the chores', { lease: { holder: '3', token: 3, expiresAt: ago(16) } }, /^no replica does the chores/],
    ['nothing signs', { active: new Map([['x509', active], ['jwt', undefined]]) }, /^there is no valid jwt authority/],
    ['what signed has expired', { active: new Map([['x509', { ...active, notAfter: now }]]) }, /^there is no valid x509 authority/],
    ['a rotation is overdue', { active: new Map([['x509', { ...active, notAfter: ago(-999) }]]) }, /^x509 authority a is past half/],
    ['keys are not shared', { sharedAuthorities: false }, /^replicas do not share their keys/]
  ]
  for (const [what, facts, warning] of cases) {
    const warnings = statusWarnings({ ...fine, ...facts })
    t.equal(warnings.length, 1, what)
    t.match(warnings[0], warning, what)
  }
})
