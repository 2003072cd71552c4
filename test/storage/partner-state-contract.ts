import type { Test } from 'tap'
import type { StoredPartnerState } from '../../src/storage/partner-state-store.ts'
import { domain, now, openFresh, type DatabaseKind } from './fixture.ts'

export async function partnerStateContract (t: Test, database: DatabaseKind): Promise<void> {
  await t.test('how partners fare', async t => {
    const { store } = await openFresh(t, database)
    const { partnerStates } = store
    const of = (name: string, more: Partial<StoredPartnerState> = {}): StoredPartnerState => ({
      trustDomain: domain(name), replicaId: 'r1', seenAt: now, facts: { failures: 0, sources: [{ name: 'ü"' }] }, ...more
    })
    const head = await store.log.head()
    await partnerStates.put([])
    await partnerStates.put([of('b.test'), of('a.test'), of('c.test')])
    t.strictSame(await partnerStates.list(), [of('a.test'), of('b.test'), of('c.test')])
    const moved = of('b.test', { replicaId: 'r2', seenAt: new Date(now.getTime() + 1), facts: { failures: 2 } })
    await partnerStates.put([moved])
    await partnerStates.keep([domain('b.test'), domain('a.test'), domain('unknown.test')])
    t.strictSame(await partnerStates.list(), [of('a.test'), moved])
    await partnerStates.keep([])
    t.strictSame(await partnerStates.list(), [])
    t.strictSame(await store.log.head(), head, 'no replica is woken by it')
  })

  await t.test('who lost the lease cannot say how partners fare', async t => {
    const { store } = await openFresh(t, database)
    const fenced = store.leases.fenced('chores', await store.leases.acquire('chores', 'r1', 10_000))
    const state = { trustDomain: domain('a.test'), replicaId: 'r1', seenAt: now, facts: {} }
    await fenced.partnerStates.put([state])
    await store.leases.acquire('chores', 'r2', 10_000, { seize: true })
    await t.rejects(fenced.partnerStates.put([{ ...state, facts: { failures: 1 } }]), { code: 'lease_lost' })
    await t.rejects(fenced.partnerStates.keep([]), { code: 'lease_lost' })
    t.strictSame(await store.partnerStates.list(), [state])
  })
}
