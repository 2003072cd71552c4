import type { Test } from 'tap'
import type { Datastore } from '../../src/storage/datastore.ts'
import { authority, backUp, dump, everything, fill, inShort, newFile, ownBundle, restore, withStore } from './backup-fixture.ts'
import { makePolicyDraft } from '../fakes/policies.ts'
import { makeServiceDraft } from '../fakes/services.ts'
import { agent, bundle, domain, draft, id, now, relationship, selectors, type DatabaseKind } from './fixture.ts'
import { issued } from './revocation-contract.ts'

const inAnHour = new Date(now.getTime() + 3_600_000)
const node = (name: string) => id(`/spire/agent/join_token/${name}`)
const serials = async (store: Datastore) => {
  const found: Record<string, string> = {}
  for await (const { id: agentId, banned, serialNumber } of store.agents.all()) {
    found[agentId.split('/').at(-1) as string] = banned ? 'banned' : serialNumber
  }
  return found
}

/** Of the trust domain's own authorities. */
const states = async (store: Datastore) => Object.fromEntries([
  ...await store.authorities.list('x509'), ...await store.authorities.list('jwt')
].map(({ authorityId, state }) => [authorityId, state]))

/** What a restore tells of what was changed since the backup, and what becomes of it. */
export async function comparisonContract (t: Test, database: DatabaseKind): Promise<void> {
  /** A backup, and the same database later. */
  const later = async (t: Test) => {
    const [url, file] = [await database.fresh(t), newFile(t)]
    await withStore(url, async store => {
      await fill(store, 5)
      for (const name of ['evicted', 'to-ban', 'to-renew', 'still']) await store.agents.attest(agent(name))
      await store.bundles.set(bundle('to-change.test'))
      await store.bundles.set(bundle('to-delete.test'))
      await store.federation.create(relationship('to-delete.test'))
      await store.authorities.save([authority('bbbb', { state: 'old', slot: 'B' })])
      await store.bundles.set({ ...ownBundle(authority('aaaa'), authority('bbbb')), sequenceNumber: 8n })
    })
    await backUp(url, file)
    await withStore(url, async store => {
      await store.agents.delete(node('evicted'))
      await store.agents.ban(node('to-ban'))
      await store.agents.attest(agent('to-renew', { serialNumber: 'c3' }))
      await store.agents.attest(agent('newcomer', { serialNumber: 'd4', selectors: selectors('n:c') }))
      await store.agents.attest(agent('new-and-bad', { selectors: selectors('n:b') }))
      await store.agents.ban(node('new-and-bad'))
      await store.agents.delete(node('banned'))
      await store.entries.deleteMany(['many-1', 'many-2'])
      await store.entries.updateMany([{ id: 'plain', change: { hint: 'again' } }])
      await store.entries.createMany([draft('later', { id: 'later' })])
      await store.services.deleteMany(['full'])
      await store.services.updateMany([makeServiceDraft({ id: 'bare', name: 'again' })])
      await store.services.createMany([makeServiceDraft({ id: 'later', name: 'later' })])
      await store.policies.apply(makePolicyDraft(['later']), 2)
      await store.bundles.set(bundle('to-change.test', { sequenceNumber: 2n }))
      await store.bundles.delete(domain('to-delete.test'), 'restrict')
      await store.federation.delete(domain('to-delete.test'))
      await store.federation.update(domain('large.test'), { endpoint: { profile: { kind: 'https_web' } } })
      await store.federation.create(relationship('new.test'))
      await store.bundles.set(bundle('new.test'))
      await store.authorities.save([
        authority('aaaa', { state: 'tainted' }), authority('bbbb', { state: 'revoked', slot: 'B' }),
        authority('kid', { kind: 'jwt', certificate: undefined, state: 'revoked' }), authority('cccc')
      ])
      await store.bundles.set({ ...ownBundle(authority('aaaa'), authority('cccc')), jwtAuthorities: [], sequenceNumber: 9n })
      await store.issuedSvids.record([issued('later')])
      const [standing] = await store.revocations.list()
      await store.revocations.lift(standing?.id ?? '')
      await store.revocations.revoke({ kind: 'spiffe_id', subject: id('/later'), until: inAnHour, reason: '', revokedBy: 'a test' })
      await store.keys.put('x509-CA-A', Uint8Array.of(7))
      await store.joinTokens.create('new-token', new Date(now.getTime() + 600_000))
    })
    return { url, file }
  }
  const told = (outcome: 'stays' | 'goes_back', agents: string[]) => [
    `2 authority_revoked ${outcome}`, `1 authority_tainted ${outcome}`, `1 authority_made ${outcome === 'stays' ? 'stays' : 'lost'}`,
    `2 agent_banned ${outcome}`, '1 agent_unbanned goes_back', ...agents, `1 revocation_made ${outcome}`, '1 revocation_lifted goes_back',
    '2 entry_deleted comes_back', '1 entry_changed goes_back', '1 entry_created lost',
    '1 service_deleted comes_back', '1 service_changed goes_back', '1 service_created lost',
    '1 bundle_deleted comes_back', '1 bundle_changed goes_back', '1 bundle_created lost',
    '1 federation_deleted comes_back', '1 federation_changed goes_back', '1 federation_created lost', '1 policy_applied lost'
  ]
  const registryOf = async (store: Datastore) => ({
    back: (await store.entries.getMany(['many-1', 'many-2', 'later'])).map(entry => entry.id),
    hint: (await store.entries.get('plain'))?.hint,
    services: (await store.services.list({ size: 0, token: '' })).services.map(({ name }) => name),
    federation: (await store.federation.list({ size: 0, token: '' })).relationships.map(({ endpoint }) => endpoint.profile.kind),
    policies: (await store.policies.active())?.number,
    changed: (await store.bundles.get(domain('to-change.test')))?.sequenceNumber,
    deleted: await store.bundles.get(domain('to-delete.test')) !== undefined,
    created: await store.bundles.get(domain('new.test')) !== undefined
  })
  const registryOfBackup = {
    back: ['many-1', 'many-2'], hint: 'changed', services: ['renamed', 'full'],
    federation: ['https_web', 'https_spiffe', 'https_web'], policies: 2, changed: 1n, deleted: true, created: false
  }
  /** What is revoked, and how many certificates are known of. */
  const revokedIn = async (store: Datastore) => ({
    revoked: (await store.revocations.list()).map(({ subject }) => subject).toSorted(),
    later: await store.issuedSvids.findByDigest(issued('later').digest) !== undefined
  })

  await t.test(`${database.kind}: an older backup over a later state tells what it undoes, and resurrects nobody`, async t => {
    const { url, file } = await later(t)
    const before = await dump(database, url, everything)
    const untouched = ['authorities', 'wrapped_keys', 'join_tokens']
    const kept = await dump(database, url, untouched)
    const expected = told('stays', ['1 agent_evicted stays', '1 agent_renewed stays', '1 agent_attested stays'])
    let refused
    await t.rejects(restore(file, url, { onReport: report => { refused = report } }), {
      code: 'datastore_not_empty',
      message: /2 entries deleted since: back again; 1 entry changed since: as in the backup; 1 entry created since: lost/
    })
    t.strictSame(inShort(refused as never), expected)
    const bans = { kind: 'agent_banned', listed: [{ id: node('to-ban') }, { id: node('new-and-bad') }] }
    t.match(refused, { identities: 'kept', findings: { 3: bans } })
    t.strictSame(await dump(database, url, everything), before, 'told, and nothing written')

    t.strictSame(inShort(await restore(file, url, { force: true })), expected)
    t.strictSame(await dump(database, url, untouched), kept)
    await withStore(url, async store => {
      t.strictSame(await registryOf(store), registryOfBackup)
      t.strictSame(await serials(store), {
        'renewed': 'a1', 'to-ban': 'banned', 'to-renew': 'c3', 'still': 'a1', 'newcomer': 'd4', 'new-and-bad': 'banned', 'banned': 'banned'
      }, 'who was evicted stays out; whom the backup bans is banned')
      const own = await store.bundles.get(domain('example.org'))
      const certificates = own?.x509Authorities.map(({ certificate }) => Buffer.from(certificate).toString())
      t.strictSame(certificates, ['certificate of aaaa', 'certificate of cccc'])
      t.equal(own?.jwtAuthorities.length, 0)
      const { agents } = await store.agents.list({ selectors: { match: 'any', values: selectors('x:y') } }, { size: 0, token: '' })
      t.strictSame(agents.map(found => found.id), [node('renewed'), node('banned')], 'found by its selectors')
      t.strictSame(await revokedIn(store), { revoked: [id('/later'), id('/revoked')], later: true }, 'what either has revoked')
    })
  })

  await t.test(`${database.kind}: revocations are discarded when that is asked for`, async t => {
    const { url, file } = await later(t)
    const report = await restore(file, url, { force: true, discardRevocations: true })
    t.strictSame(inShort(report), told('goes_back', ['1 agent_evicted comes_back', '1 agent_renewed goes_back', '1 agent_attested lost']))
    t.equal(report.identities, 'discarded')
    await withStore(url, async store => {
      t.strictSame(await registryOf(store), registryOfBackup)
      t.strictSame(await serials(store), {
        'renewed': 'a1', 'banned': 'banned', 'evicted': 'a1', 'to-ban': 'a1', 'to-renew': 'a1', 'still': 'a1'
      })
      t.strictSame(await states(store), { aaaa: 'active', bbbb: 'old', kid: 'active' })
      t.strictSame((await store.keys.list()).get('x509-CA-A'), Uint8Array.of(0, 255, 128))
      const own = await store.bundles.get(domain('example.org'))
      t.match(own, { x509Authorities: { length: 2 }, jwtAuthorities: { length: 1 }, sequenceNumber: 1_000_009n }, 'above what was shown')
      await t.rejects(store.joinTokens.check('a-token', now), { code: 'join_token_invalid' })
      t.strictSame(await revokedIn(store), { revoked: [id('/revoked')], later: true }, 'what was issued stays known: it is out there')
    })
  })

  await t.test(`${database.kind}: over a database of another life, what it distrusts stays distrusted`, async t => {
    const [origin, url, file] = [await database.fresh(t), await database.fresh(t), newFile(t)]
    await withStore(origin, async store => {
      await fill(store)
      await store.agents.attest(agent('met-again'))
    })
    await backUp(origin, file)
    await withStore(url, async store => {
      // A server that was started anew while the old database was thought lost.
      await store.authorities.save([authority('dddd'), authority('aaaa', { state: 'revoked' })])
      await store.authorities.save([authority('kid', { kind: 'jwt', state: 'tainted' })])
      await store.bundles.set({ ...ownBundle(authority('dddd')), jwtAuthorities: [], sequenceNumber: 3_000_000n })
      await store.agents.attest(agent('met-again', { serialNumber: 'e5' }))
      await store.agents.ban(node('met-again'))
      await store.agents.attest(agent('stranger', { selectors: selectors('s:s') }))
      await store.agents.ban(node('stranger'))
      await store.agents.attest(agent('forgotten'))
      await store.revocations.revoke({ kind: 'spiffe_id', subject: id('/here'), until: inAnHour, reason: '', revokedBy: 'a test' })
    })
    const report = await restore(file, url, { force: true })
    t.equal(report.identities, 'merged')
    t.strictSame(inShort(report), [
      '1 authority_revoked stays', '1 authority_tainted stays', '1 authority_made lost', '2 agent_banned stays',
      '1 agent_unbanned goes_back', '1 agent_evicted comes_back', '1 agent_attested lost',
      '1 revocation_made stays', '1 revocation_lifted goes_back',
      '1102 entry_deleted comes_back', '2 service_deleted comes_back', '2 bundle_deleted comes_back',
      '2 federation_deleted comes_back'
    ])
    t.equal(report.findings.find(({ kind }) => kind === 'entry_deleted')?.listed.length, 1_000, 'a list has an end')
    await withStore(url, async store => {
      t.strictSame(await serials(store), { 'renewed': 'a1', 'banned': 'banned', 'met-again': 'banned', 'stranger': 'banned' })
      t.strictSame(await states(store), { aaaa: 'revoked', kid: 'tainted' })
      t.match(await revokedIn(store), { revoked: [id('/here'), id('/revoked')] })
      const own = await store.bundles.get(domain('example.org'))
      t.match(own, { x509Authorities: { length: 0 }, jwtAuthorities: [{ keyId: 'kid', tainted: true }] })
      t.equal(own?.sequenceNumber, 4_000_000n, 'partners have seen no later number of the own bundle')
    })
  })

  await t.test(`${database.kind}: a backup from before the first authority`, async t => {
    const [url, file] = [await database.fresh(t), newFile(t)]
    await withStore(url, async () => {})
    t.equal((await backUp(url, file)).trustDomain, '')
    await withStore(url, store => fill(store, 5))
    const untouched = ['agents', 'agent_selectors', 'authorities', 'wrapped_keys', 'join_tokens']
    const before = await dump(database, url, untouched)
    t.strictSame(inShort(await restore(file, url, { force: true })), [
      '1 authority_revoked stays', '2 authority_made stays', '1 agent_banned stays', '1 agent_attested stays', '1 revocation_made stays',
      '7 entry_created lost', '2 service_created lost', '2 bundle_created lost',
      '2 federation_created lost', '2 policy_applied lost'
    ])
    t.strictSame(await dump(database, url, untouched), before)
    await withStore(url, async store => {
      t.equal((await store.bundles.get(domain('example.org')))?.sequenceNumber, 7n, 'the own bundle is known by its authorities')
      t.equal(await store.bundles.count(), 1)
    })
  })

  await t.test(`${database.kind}: the newer of two backups, over what the older one made`, async t => {
    const [url, older, newer] = [await database.fresh(t), newFile(t), newFile(t)]
    await withStore(url, async store => {
      await store.authorities.save([authority('aaaa')])
      await store.bundles.set(ownBundle(authority('aaaa')))
      await store.agents.attest(agent('bad'))
    })
    await backUp(url, older)
    await withStore(url, async store => {
      await store.agents.ban(node('bad'))
      await store.authorities.save([authority('aaaa', { state: 'revoked' })])
    })
    await backUp(url, newer)
    const empty = await database.fresh(t)
    await restore(older, empty)
    t.strictSame(inShort(await restore(newer, empty, { force: true })), ['1 authority_cleared goes_back', '1 agent_unbanned goes_back'])
    await withStore(empty, async store => {
      t.strictSame(await serials(store), { bad: 'banned' })
      t.match(await store.authorities.list('x509'), [{ state: 'revoked' }])
      t.equal((await store.bundles.get(domain('example.org')))?.x509Authorities.length, 0)
    })
  })
}
