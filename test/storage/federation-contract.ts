import type { Test } from 'tap'
import { parseBundleEndpointUrl } from '../../src/spiffe/bundle-endpoint.ts'
import type { Bundle } from '../../src/spiffe/bundle.ts'
import { codeOf } from '../../src/spiffe/errors.ts'
import { bundle, domain, everyPage, openFresh, relationship, type DatabaseKind } from './fixture.ts'

const [a, b] = [domain('a.test'), domain('b.test')]

export async function federationContract (t: Test, database: DatabaseKind): Promise<void> {
  await t.test('a relationship comes back as it was given', async t => {
    const { store: { federation } } = await openFresh(t, database)
    const web = relationship('a.test', undefined, 'https://A.test:8443/b?x=%C3%A4&y')
    const spiffe = relationship('b.test', 'spiffe://third.test/bundles')
    t.strictSame(await federation.create(web), web)
    t.strictSame(await federation.create(spiffe), spiffe)
    t.strictSame([await federation.get(a), await federation.get(b), await federation.get(domain('c.test'))], [web, spiffe, undefined])
    t.strictSame(await federation.list(everyPage), { relationships: [web, spiffe], nextPageToken: '' })
    await t.rejects(federation.create(relationship('a.test')), { code: 'federation_exists' })
    t.strictSame(await federation.get(a), web, 'a refused create changes nothing')
  })

  await t.test('pages follow the order of creation, and end with an empty one', async t => {
    const { store: { federation } } = await openFresh(t, database)
    for (const name of ['c.test', 'a.test', 'd.test', 'b.test']) await federation.create(relationship(name))
    const walk = async (size: number, keep?: (domain: string) => boolean) => {
      const pages: string[] = []
      for (let token = ''; ;) {
        const page = await federation.list({ size, token }, keep)
        pages.push(page.relationships.map(({ trustDomain }) => trustDomain[0]).join(''))
        if (page.nextPageToken === '') return pages.join(' ')
        token = page.nextPageToken
      }
    }
    t.equal(await walk(3), 'cad b ')
    t.equal(await walk(2), 'ca db ')
    t.equal(await walk(2, name => name !== 'a.test'), 'cd b ', 'what is left out does not make pages short')
    t.equal(await walk(0, name => name !== 'a.test'), 'cdb')
    await t.rejects(federation.list({ size: 1, token: 'x' }), { code: 'page_token_malformed' })
    const first = await federation.list({ size: 2, token: '' })
    await federation.delete(a)
    const second = await federation.list({ size: 2, token: first.nextPageToken })
    t.match(second, { relationships: [{ trustDomain: 'd.test' }, { trustDomain: b }] }, 'a token stays true when its row goes')
  })

  await t.test('an update changes what it names', async t => {
    const { store: { federation } } = await openFresh(t, database)
    await federation.create(relationship('a.test', 'spiffe://a.test/one'))
    const moved = await federation.update(a, { endpoint: { url: parseBundleEndpointUrl('https://new.test') } })
    t.strictSame(moved, relationship('a.test', 'spiffe://a.test/one', 'https://new.test'))
    const web = await federation.update(a, { endpoint: { profile: { kind: 'https_web' } } })
    t.strictSame(web, relationship('a.test', undefined, 'https://new.test'), 'no ID of the profile before is left')
    t.strictSame(await federation.update(a, {}), web)
    t.strictSame(await federation.get(a), web)
    await t.rejects(federation.update(b, { endpoint: { url: parseBundleEndpointUrl('https://new.test') } }), { code: 'federation_not_found' })
  })

  await t.test('a fetched bundle is taken while the relationship stands, and not when it has gone', async t => {
    const { store } = await openFresh(t, database)
    const [one, two] = [1n, 2n].map(sequenceNumber => bundle('a.test', { sequenceNumber })) as [Bundle, Bundle]
    await t.rejects(store.federation.updateBundle(a, () => one), { code: 'federation_not_found' })
    await store.federation.create(relationship('a.test'))
    t.strictSame(await store.federation.updateBundle(a, current => current ?? one), one)
    await t.rejects(store.federation.updateBundle(a, () => { throw new Error('refused') }), { message: 'refused' })
    t.strictSame(await store.federation.updateBundle(a, current => current ?? two), one, 'what gives back its argument writes nothing')
    await store.federation.delete(a)
    await t.rejects(store.federation.updateBundle(a, () => two), { code: 'federation_not_found' }, 'FED-31')
    t.strictSame(await store.bundles.get(a), one)
  })

  await t.test('a bundle comes with a relationship or not at all, and stays when it goes', async t => {
    const { store } = await openFresh(t, database)
    const [one, two, three] = [1n, 2n, 3n].map(sequenceNumber => bundle('a.test', { sequenceNumber }))
    await store.federation.create(relationship('a.test'), one)
    t.strictSame(await store.bundles.get(a), one)
    await t.rejects(store.federation.create(relationship('a.test'), two), { code: 'federation_exists' })
    t.strictSame(await store.bundles.get(a), one, 'nor is the bundle of a refused one taken')
    await store.federation.update(a, { bundle: three })
    t.strictSame([await store.bundles.get(a), await store.federation.get(a)], [three, relationship('a.test')])
    await t.rejects(store.federation.update(b, { bundle: bundle('b.test') }), { code: 'federation_not_found' })
    t.equal(await store.bundles.get(b), undefined)
    t.strictSame(await store.federation.delete(a), relationship('a.test'))
    t.strictSame([await store.federation.get(a), await store.bundles.get(a)], [undefined, three])
    await t.rejects(store.federation.delete(a), { code: 'federation_not_found' })
    await store.federation.create(relationship('a.test'))
    t.strictSame(await store.bundles.get(a), three, 'it is there when the relationship comes back without one')
    await store.bundles.delete(a, 'restrict')
    t.ok(await store.federation.get(a), 'and a relationship stays when the bundle goes')
  })

  await t.test('of many that want one trust domain at once, one gets it, with its bundle', async t => {
    const { store } = await openFresh(t, database)
    const outcomes = await Promise.all(Array.from({ length: 10 }, (_, n) => store.federation.create(
      relationship('a.test', undefined, `https://h${n}.test`), bundle('a.test', { sequenceNumber: BigInt(n) })
    ).catch((error: unknown) => error)))
    t.equal(outcomes.filter(outcome => codeOf(outcome) === 'federation_exists').length, 9)
    const { endpoint: { url } } = await store.federation.get(a) ?? relationship('none.test')
    t.equal(url, `https://h${(await store.bundles.get(a))?.sequenceNumber}.test`)
  })
}
