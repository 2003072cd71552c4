import type { Test } from 'tap'
import { codeOf } from '../../src/spiffe/errors.ts'
import type { ServiceEndpoint } from '../../src/spiffe/service-endpoint.ts'
import type { Service } from '../../src/spiffe/service.ts'
import type { Datastore } from '../../src/storage/datastore.ts'
import { makeEndpoint, makeServiceDraft } from '../fakes/services.ts'
import { everyPage, now, openFresh, type DatabaseKind } from './fixture.ts'

const port = { name: '', port: 80, targetPort: 0, protocol: '', localPort: 0 }
const createdAtSeconds = now.getTime() / 1000

export async function serviceContract (t: Test, database: DatabaseKind): Promise<void> {
  await t.test('a service comes back as it was given', async t => {
    const { store } = await openFresh(t, database)
    const { services } = store
    const full = makeServiceDraft({
      id: 'full', name: 'web.shop', address: '10.96.0.1', inbound: 'permissive', callers: ['spiffe://example.org/a', 'spiffe://p.test/b/*'],
      ports: [{ ...port, name: 'http', localPort: 1080, protocol: 'http2' }, { ...port, port: 90 }],
      staticEndpoints: [{ address: '192.0.2.1', port: 7 }, { address: '2001:db8::1', port: 0 }]
    })
    const drafts = [full, makeServiceDraft({ name: 'bare' }), makeServiceDraft({ name: 'closed', callers: [] })]
    const [one, bare, closed] = await services.createMany(drafts) as Service[]
    t.strictSame(one, { ...full, revisionNumber: 0, createdAtSeconds })
    t.match(bare?.id, /^[0-9a-f-]{36}$/, 'an id is made')
    t.strictSame(await services.get('full'), one)
    t.strictSame(await services.getByName('bare'), bare)
    t.strictSame((await services.getByName('closed'))?.callers, [], 'nobody is not the same as anybody')
    t.equal('callers' in (bare ?? {}), false)
    t.strictSame([await services.get('no'), await services.getByName('no')], [undefined, undefined])
    const stored: Service[] = []
    for await (const service of services.all()) stored.push(service)
    t.strictSame(stored, [one, bare, closed])
    const first = await services.list({ size: 2, token: '' })
    t.strictSame([...first.services, ...(await services.list({ size: 2, token: first.nextPageToken })).services], stored)
    await t.rejects(services.list({ size: 1, token: 'x' }), { code: 'page_token_malformed' })
    t.equal(await services.count(), 3)
    t.strictSame([await services.createMany([]), await services.updateMany([]), await services.deleteMany([])], [[], [], []])
  })

  await t.test('names, addresses and local ports belong to one service', async t => {
    const { store: { services } } = await openFresh(t, database)
    const local = (name: string, localPort: number, address = '') =>
      makeServiceDraft({ id: name, name, address, ports: [{ ...port, localPort }] })
    const created = await services.createMany([
      local('a', 1080, '10.96.0.1'), local('b', 1081), local('c', 1080), local('d', 0, '10.96.0.1'),
      makeServiceDraft({ id: 'e', name: 'a' }), makeServiceDraft({ id: 'a', name: 'f' })
    ])
    t.strictSame(created.map(codeOf), [undefined, undefined, 'service_exists', 'service_exists', 'service_exists', 'service_exists'])
    t.match(created[2], { message: 'local port 1080 is that of service "a"' })
    t.strictSame((await services.updateMany([local('b', 1080)])).map(codeOf), ['service_exists'])
    t.match(await services.get('b'), { revisionNumber: 0, ports: [{ localPort: 1081 }] }, 'a refused change changes nothing')
    const swapped = [local('a', 1082), local('b', 1080, '10.96.0.1'), local('a', 1081)]
    t.strictSame((await services.updateMany(swapped)).map(codeOf), [undefined, undefined, undefined], 'what one gives up another may take')
    await services.deleteMany(['b'])
    t.strictSame((await services.createMany([local('c', 1080, '10.96.0.1')])).map(codeOf), [undefined], 'nor is what is gone in the way')
  })

  await t.test('changes and removals of services', async t => {
    const { store: { services } } = await openFresh(t, database)
    await services.createMany([makeServiceDraft({ id: 'a', name: 'a', callers: [] }), makeServiceDraft({ id: 'b', name: 'b' })])
    const renamed = makeServiceDraft({ id: 'a', name: 'z' })
    const [after, unknown] = await services.updateMany([renamed, makeServiceDraft({ id: 'no' })])
    t.strictSame(after, { ...renamed, revisionNumber: 1, createdAtSeconds }, 'whole: what is not said is gone')
    t.equal(codeOf(unknown), 'service_not_found')
    t.strictSame(await services.updateMany([renamed]), [after], 'an equal one stays as it was')
    t.strictSame([await services.getByName('a'), await services.getByName('z')], [undefined, after])
    const removed = await services.deleteMany(['a', 'no', 'a'])
    t.strictSame(removed[0], after)
    t.strictSame(removed.slice(1).map(codeOf), ['service_not_found', 'service_not_found'])
    t.strictSame((await services.list(everyPage)).services.map(({ id }) => id), ['b'])
  })

  await t.test('of many that want one name at once, one gets it', async t => {
    const { store: { services } } = await openFresh(t, database)
    const outcomes = await Promise.all(Array.from({ length: 10 }, (_, n) => services.createMany([makeServiceDraft({ id: `s${n}` })])))
    t.equal(outcomes.flat().filter(outcome => codeOf(outcome) === 'service_exists').length, 9)
  })

  await t.test('an agent\'s endpoints are what it reported last, and nobody else\'s', async t => {
    const { store } = await openFresh(t, database)
    const [web, api, far] = [makeEndpoint('a'), makeEndpoint('a', '/api'), makeEndpoint('b')]
    const replace = (...endpoints: ServiceEndpoint[]) => store.endpoints.replace(new Map([[web.agentId, endpoints]]))
    await store.endpoints.replace(new Map([[web.agentId, [web, api]], [far.agentId, [far]]]))
    t.strictSame(await endpointsOf(store), sorted(web, api, far))
    const again = makeEndpoint('a', '/web', '10.0.0.1', { incarnation: '2', node: 'renamed' })
    await replace(again, makeEndpoint('a', '/web', '10.0.0.2'))
    t.strictSame(await endpointsOf(store), sorted(again, makeEndpoint('a', '/web', '10.0.0.2'), far))
    await t.rejects(replace(far), /reported by another agent/)
    await replace()
    t.strictSame(await endpointsOf(store), [far])
    await store.endpoints.replace(new Map())
    const many = Array.from({ length: 1_200 }, (_, n) => makeEndpoint('a', '/web', `10.1.${n >> 8}.${n & 255}`))
    await Promise.all([replace(...many), replace(...many), replace(...many.slice(600)), replace(...many)])
    const { length } = await endpointsOf(store)
    t.ok(length === 1_201 || length === 601, 'of reports that meet one counts, whole')
  })
}

async function endpointsOf ({ endpoints }: Datastore): Promise<ServiceEndpoint[]> {
  const found: ServiceEndpoint[] = []
  for await (const endpoint of endpoints.all()) found.push(endpoint)
  return sorted(...found)
}

function sorted (...endpoints: ServiceEndpoint[]): ServiceEndpoint[] { return endpoints.toSorted((a, b) => a.id < b.id ? -1 : 1) }
