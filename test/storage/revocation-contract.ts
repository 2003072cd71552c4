import { hash } from 'node:crypto'
import type { Test } from 'tap'
import { codeOf } from '../../src/spiffe/errors.ts'
import type { IssuedSvid } from '../../src/storage/issued-svid-store.ts'
import type { Datastore } from '../../src/storage/datastore.ts'
import { agent, id, now, openFresh, type DatabaseKind } from './fixture.ts'

const node = agent('n').id
const minutes = (count: number) => new Date(now.getTime() + count * 60_000)

/** An SVID of `/name` that expires in an hour, issued to the node, unless told otherwise. */
export function issued (name: string, rest: Partial<IssuedSvid> = {}): IssuedSvid {
  return {
    digest: hash('sha256', name),
    serialNumber: hash('md5', name),
    spiffeId: id(`/${name.replace(/#.*/, '')}`),
    agentId: node,
    replicaId: 'r',
    issuedAt: now,
    notAfter: minutes(60),
    ...rest
  }
}

const why = { reason: 'stolen', revokedBy: 'a test' }
const digestsOf = (svids: readonly IssuedSvid[]) => svids.map(({ digest }) => digest).toSorted()
const revokeId = (store: Datastore, name: string, until = minutes(60)) =>
  store.revocations.revoke({ kind: 'spiffe_id', subject: id(`/${name}`), until, ...why })

export async function revocationContract (t: Test, database: DatabaseKind): Promise<void> {
  await t.test('what was issued is found until it expires', async t => {
    const { store } = await openFresh(t, database)
    const [short, long] = [10, 60].map(life => Array.from({ length: 700 }, (_, n) => issued(`${life}#${n}`, { notAfter: minutes(life) })))
    const minted = issued('minted', { agentId: undefined, serialNumber: 'abc' })
    const twin = issued('twin', { serialNumber: 'abc' })
    t.equal((await store.issuedSvids.record(short ?? [])).size, 0)
    t.equal((await store.issuedSvids.record([...long ?? [], minted, twin])).size, 0)
    t.equal((await store.issuedSvids.record([minted])).size, 0, 'twice is harmless')
    t.strictSame(await store.issuedSvids.findByDigest(minted.digest), minted)
    t.equal(await store.issuedSvids.findByDigest(hash('sha256', 'unknown')), undefined)
    t.strictSame(digestsOf(await store.issuedSvids.findBySerial('abc')), digestsOf([minted, twin]))
    t.equal(await store.issuedSvids.prune(minutes(10)), 1, 'what was written together goes when the last of it has expired')
    t.equal(await store.issuedSvids.findByDigest(short?.[0]?.digest ?? ''), undefined)
    t.strictSame(await store.issuedSvids.findByDigest(long?.[699]?.digest ?? ''), long?.[699])
    t.equal((await store.log.head()).number, 0, 'no replica keeps it in memory: it is no change')
  })

  await t.test('an ID is revoked with its certificates, and nothing is recorded for it from then on', async t => {
    const { store, clock } = await openFresh(t, database)
    await store.issuedSvids.record([
      issued('bad#1'), issued('bad#2', { notAfter: minutes(90) }), issued('bad#3', { notAfter: minutes(0) }), issued('good')
    ])
    const revocation = await revokeId(store, 'bad')
    t.match(revocation, { kind: 'spiffe_id', subject: id('/bad'), ...why, revokedAt: now, expiresAt: minutes(90) })
    t.strictSame(revocation.certificateDigests, digestsOf([issued('bad#1'), issued('bad#2')]), 'without the one that has expired')
    t.strictSame(await store.revocations.list(), [revocation])

    const [late, other] = [issued('bad#4'), issued('good#2')]
    t.strictSame(await store.issuedSvids.record([late, other]), new Map([[late, 'id']]))
    t.equal(await store.issuedSvids.findByDigest(late.digest), undefined)
    t.strictSame(await store.issuedSvids.findByDigest(other.digest), other)

    t.strictSame(await store.revocations.prune(minutes(89)), [])
    await clock.advance(90 * 60_000)
    t.strictSame(await store.revocations.prune(clock.now()), [revocation], 'ends by itself')
    t.equal((await store.issuedSvids.record([issued('bad#5', { notAfter: minutes(120) })])).size, 0)
  })

  await t.test('the same again stays one revocation, which learns what is new', async t => {
    const { store } = await openFresh(t, database)
    await store.issuedSvids.record([issued('bad#1')])
    const first = await revokeId(store, 'bad')
    const again = await revokeId(store, 'bad', minutes(180))
    t.strictSame(again, { ...first, expiresAt: minutes(180) })
    const svid = { kind: 'svid', subject: id('/x'), notAfter: minutes(5), ...why } as const
    const one = await store.revocations.revoke({ ...svid, digest: 'aa' })
    const two = await store.revocations.revoke({ ...svid, digest: 'bb' })
    t.not(one.id, two.id, 'two certificates are two')
    t.strictSame(await store.revocations.revoke({ ...svid, digest: 'aa' }), one)
    t.equal((await store.revocations.list()).length, 3)
  })

  await t.test('a node is banned and all that it was issued is revoked, in one change', async t => {
    const { store } = await openFresh(t, database)
    await store.agents.attest(agent('n'))
    const mine = [issued('a'), issued('b'), issued('node', { spiffeId: node })]
    await store.issuedSvids.record([...mine, issued('c', { agentId: agent('other').id }), issued('d', { agentId: undefined })])
    const before = await store.log.head()
    const revocation = await store.revocations.revoke({ kind: 'node', subject: node, until: minutes(1), ...why })
    t.match(revocation, { kind: 'node', subject: node, certificateDigests: digestsOf(mine), expiresAt: minutes(60) })
    t.match(await store.agents.get(node), { banned: true, serialNumber: '' })
    const head = await store.log.head()
    t.equal(head.number, before.number + 1)
    t.match(await store.log.read(before), {
      state: { agents: new Map([[node, { banned: true }]]), revocations: new Map([[revocation.id, revocation]]) }
    })
    const late = issued('e')
    t.strictSame(await store.issuedSvids.record([late]), new Map([[late, 'node']]))

    t.strictSame(await store.revocations.lift(revocation.id), revocation)
    t.match(await store.log.read(head), { state: { agents: new Map(), revocations: new Map([[revocation.id, undefined]]) } })
    t.match(await store.agents.get(node), { banned: true }, 'lifting lets nobody in')
    await t.rejects(store.revocations.lift(revocation.id), { code: 'revocation_not_found' })
    await t.rejects(store.revocations.revoke({ kind: 'node', subject: agent('x').id, until: now, ...why }), { code: 'agent_not_found' })
    await store.agents.delete(node)
    t.match(await store.revocations.revoke({ kind: 'node', subject: node, until: now, ...why }),
      { certificateDigests: { length: 3 } }, 'what an evicted node holds can be revoked')
  })

  await t.test('an agent\'s SVID is recorded with it, and not given out when its ID or node is revoked', async t => {
    const { store } = await openFresh(t, database)
    const attest = (name: string, digest: string) => {
      const { id: agentId } = agent(name)
      return store.agents.attest(agent(name), { issued: issued(digest, { spiffeId: agentId, agentId }) })
    }
    await Promise.all([attest('n', 'n#1'), attest('m', 'm#1')])
    t.match(await store.issuedSvids.findByDigest(issued('n#1').digest), { spiffeId: node, agentId: node })
    await store.revocations.revoke({ kind: 'node', subject: node, until: minutes(60), ...why })
    await store.revocations.revoke({ kind: 'spiffe_id', subject: agent('id').id, until: minutes(60), ...why })
    await store.agents.delete(node)
    const outcomes = await Promise.allSettled([attest('n', 'n#2'), attest('m', 'm#2'), attest('id', 'id#1')])
    t.strictSame(outcomes.map(outcome => outcome.status === 'fulfilled' ? outcome.value.id : codeOf(outcome.reason)),
      ['agent_banned', agent('m').id, 'spiffe_id_revoked'])
    t.equal(await store.agents.count({}), 1, 'who is refused leaves no row')
  })

  await t.test('what was given out while the database was away is covered afterwards', async t => {
    const { store } = await openFresh(t, database)
    await store.issuedSvids.record([issued('bad#1')])
    const revocation = await revokeId(store, 'bad', minutes(1))
    const before = await store.log.head()
    const late = issued('bad#2', { notAfter: minutes(70) })
    await store.issuedSvids.recordLate([late, issued('good')])
    const learned = { ...revocation, certificateDigests: digestsOf([issued('bad#1'), late]), expiresAt: minutes(70) }
    t.strictSame(await store.revocations.list(), [learned])
    t.match(await store.log.read(before), { state: { revocations: new Map([[learned.id, learned]]) } }, 'everybody is told')
    await store.issuedSvids.recordLate([late])
    t.strictSame((await store.log.head()).number, before.number + 1, 'twice is harmless')
  })

  await t.test('records and revocations that meet: none slips through', async t => {
    const { store } = await openFresh(t, database)
    const svids = Array.from({ length: 40 }, (_, n) => issued(`bad#${n}`))
    const outcomes = svids.map(svid => store.issuedSvids.record([svid]))
    const [revocation, ...refusals] = await Promise.all([revokeId(store, 'bad'), ...outcomes])
    const givenOut = svids.filter((svid, index) => !(refusals[index] as ReadonlyMap<IssuedSvid, string>).has(svid))
    const covered = new Set(revocation.certificateDigests)
    t.strictSame(givenOut.filter(({ digest }) => !covered.has(digest)), [], 'whatever was given out is covered')
    for (const svid of svids) {
      const found = await store.issuedSvids.findByDigest(svid.digest)
      t.equal(found !== undefined, givenOut.includes(svid), 'and on record, and nothing else is')
    }
  })

  await t.test('reasons that no database can hold are refused', async t => {
    const { store } = await openFresh(t, database)
    for (const reason of ['x'.repeat(1_001), 'a\u0000b', '\ud800']) {
      await t.rejects(store.revocations.revoke({ kind: 'spiffe_id', subject: id('/a'), until: minutes(1), reason, revokedBy: 'x' }),
        { code: 'argument_invalid' })
    }
    t.strictSame(await store.revocations.list(), [])
  })
}
