import t from 'tap'
import { entryService } from '../../../src/wire/generated/server-entry.ts'
import type { EntryInit } from '../../../src/wire/generated/types.ts'
import { capturedLog } from '../../fakes/captured-log.ts'
import { testAdminRoles } from '../../fakes/roles.ts'
import { startTestServer } from '../../fakes/server.ts'
import { id, openAs, seed, selectors, statuses, webOf } from './admin-client.ts'

const roles = testAdminRoles({
  name: 'team-a',
  members: ['spiffe://example.org/ci/team-a'],
  verbs: ['entries.read', 'entries.write'],
  scope: { ids: ['spiffe://example.org/team-a/*'], parents: ['spiffe://example.org/nodes/*'], selectors: ['k8s:*'] }
}, {
  name: 'ops', members: ['spiffe://example.org/team-a/operator'], verbs: ['cluster.read']
})
const denied = 7
const notFound = 5

void t.test('a batch of creations is answered item by item; the log names what was outside', async t => {
  const { log, lines } = capturedLog()
  await using server = await startTestServer({ config: { roles }, log })
  await seed(server, [{ ...webOf('team-a'), spiffeId: id('/team-a/boss'), admin: true }])
  await using channel = await openAs(server, '/ci/team-a')
  const entries = channel.client(entryService)
  const asked: Record<string, readonly [EntryInit, number]> = {
    'within': [webOf('team-a'), 0],
    'another prefix that begins alike': [webOf('team-ab'), denied],
    'another parent': [{ ...webOf('team-a'), parentId: id('/nodesx/1') }, denied],
    'another selector': [{ ...webOf('team-a'), selectors: [...selectors, { type: 'unix', value: 'uid:0' }] }, denied],
    'a federation partner': [{ ...webOf('team-a'), federatesWith: ['partner.test'] }, denied],
    'a DNS name': [{ ...webOf('team-a'), dnsNames: ['web.internal'] }, denied],
    'an admin': [{ ...webOf('team-a'), admin: true }, denied],
    'a downstream server': [{ ...webOf('team-a'), downstream: true }, denied],
    'a node alias': [{ ...webOf('team-a'), parentId: id('/spire/server') }, denied],
    'the ID of an admin': [{ ...webOf('team-a'), spiffeId: id('/team-a/boss'), selectors: [{ type: 'k8s', value: 'x' }] }, denied],
    'the ID of who has another role': [{ ...webOf('team-a'), spiffeId: id('/team-a/operator') }, denied],
    'no entry at all': [{}, 3],
    'within, once more': [{ ...webOf('team-a'), spiffeId: id('/team-a/db') }, 0]
  }
  const { results } = await entries.batchCreateEntry({ entries: Object.values(asked).map(([entry]) => entry) })
  for (const [index, [name, [, code]]] of Object.entries(asked).entries()) t.equal(results[index]?.status?.code, code, name)
  t.match(results[1]?.status?.message, 'the SPIFFE ID is outside your role "team-a"')
  t.match(results[6]?.status?.message, 'no role of yours grants entries.admin here')
  const told = lines.filter(({ msg }) => msg === 'administration denied')
  t.equal(told.length, 10)
  t.match(told[0], { role: 'team-a', outside: 'SPIFFE ID', value: 'spiffe://example.org/team-ab/web', verb: 'entries.write' })
  const { count } = await server.admin.client(entryService).countEntries({})
  t.equal(count, 3, 'what was refused is not there')
})

void t.test('an update is held against the entry as it was and as it will be', async t => {
  await using server = await startTestServer({ config: { roles } })
  const [mine, theirs, moved, boss, hidden] = await seed(server, [
    webOf('team-a'), webOf('team-b'), { ...webOf('team-a'), spiffeId: id('/team-a/x'), parentId: id('/other/1') },
    { ...webOf('team-a'), spiffeId: id('/team-a/boss'), admin: true }, { ...webOf('team-a'), spiffeId: id('/team-ab/y') }
  ]) as [string, string, string, string, string]
  await using channel = await openAs(server, '/ci/team-a')
  const entries = channel.client(entryService)
  const update = async (change: EntryInit, ...mask: string[]) => {
    const inputMask = Object.fromEntries(mask.map(field => [field, true]))
    return (await entries.batchUpdateEntry({ entries: [change], inputMask })).results[0]?.status
  }
  t.match(await update({ id: mine, hint: 'x' }, 'hint'), { code: 0 })
  t.match(await update({ id: mine, spiffeId: id('/team-b/web') }, 'spiffeId'), { code: denied, message: /SPIFFE ID is outside/ })
  t.match(await update({ id: mine, parentId: id('/other/1') }, 'parentId'), { code: denied, message: /parent ID is outside/ })
  t.match(await update({ id: mine, parentId: id('/spire/server') }, 'parentId'), { code: denied, message: /entries.alias/ })
  t.match(await update({ id: mine, admin: true }, 'admin'), { code: denied, message: /entries.admin/ })
  t.match(await update({ id: mine, downstream: true }, 'downstream'), { code: denied })
  t.match(await update({ id: boss, admin: false }, 'admin'), { code: denied }, 'nor may the flag be taken away')
  for (const other of [theirs, hidden, moved]) {
    t.match(await update({ ...webOf('team-a'), id: other }, 'spiffeId', 'parentId'), { code: notFound }, 'not even into the scope')
    t.match(await update({ id: other, x509SvidTtl: -1 }, 'x509SvidTtl'), { code: notFound }, 'nor is it told by another mistake')
  }
  t.match(await update({ id: mine, parentId: id('/nodes/2') }, 'parentId'), { code: 0 }, 'within it moves')
  const all = (await server.admin.client(entryService).listEntries({})).entries
  t.same(all.map(({ spiffeId, parentId, admin }) => [spiffeId?.path, parentId?.path, admin]), [
    ['/team-a/web', '/nodes/2', false], ['/team-b/web', '/nodes/1', false], ['/team-a/x', '/other/1', false],
    ['/team-a/boss', '/nodes/1', true], ['/team-ab/y', '/nodes/1', false]
  ], 'nothing else changed')
})

void t.test('deletions are held against what is stored', async t => {
  await using server = await startTestServer({ config: { roles } })
  const [mine, theirs, boss] = await seed(server, [
    webOf('team-a'), webOf('team-b'), { ...webOf('team-a'), spiffeId: id('/team-a/boss'), admin: true }
  ]) as [string, string, string]
  await using channel = await openAs(server, '/ci/team-a')
  const { results } = await channel.client(entryService).batchDeleteEntry({ ids: [theirs, mine, '', boss, 'unknown', mine] })
  t.same(statuses(results), [notFound, 0, 3, denied, notFound, notFound])
  t.equal((await server.admin.client(entryService).countEntries({})).count, 2)
})

void t.test('lists, pages and counts show the scope and no more', async t => {
  await using server = await startTestServer({ config: { roles } })
  const teams = ['team-a', 'team-b', 'team-ab', 'team-a', 'team-b', 'team-a', 'team-b', 'team-a', 'team-b']
  const stored = await seed(server, teams.map((team, index) =>
    ({ ...webOf(team), spiffeId: id(`/${team}/${index}`), hint: `h${index % 2}` })))
  await using channel = await openAs(server, '/ci/team-a')
  const entries = channel.client(entryService)
  t.equal((await entries.countEntries({})).count, 4)
  t.equal((await entries.countEntries({ filter: { byHint: { value: 'h1' } } })).count, 3, 'with a filter')
  t.equal((await entries.listEntries({})).entries.length, 4)
  const pages = []
  for (let pageToken = ''; ;) {
    const page = await entries.listEntries({ pageSize: 2, pageToken })
    pages.push(page.entries.map(({ spiffeId }) => spiffeId?.path))
    pageToken = page.nextPageToken
    if (pageToken === '') break
  }
  t.same(pages, [['/team-a/0', '/team-a/3'], ['/team-a/5', '/team-a/7'], []], 'pages are full, none is missed or seen twice')
  t.equal((await entries.getEntry({ id: stored[0] })).id, stored[0])
  await t.rejects(entries.getEntry({ id: stored[1] }), { status: 'NOT_FOUND', message: 'entry not found' })
  await t.rejects(entries.getEntry({ id: 'unknown' }), { status: 'NOT_FOUND', message: 'entry not found' }, 'the same answer as for none')
  t.equal((await server.admin.client(entryService).countEntries({})).count, 9, 'the admin socket sees all')
})

void t.test('a similar entry that is outside is not shown', async t => {
  const reads = testAdminRoles({
    name: 'team-a', members: ['spiffe://example.org/ci/team-a'], verbs: ['entries.read', 'entries.write'],
    scope: { ids: ['spiffe://example.org/team-a/*'], parents: ['*'], selectors: ['*'], dns_names: ['*.team-a.internal'] }
  })
  await using server = await startTestServer({ config: { roles: reads } })
  await seed(server, [{ ...webOf('team-a'), dnsNames: ['secret.ops.internal'] }, { ...webOf('team-a'), spiffeId: id('/team-a/db') }])
  await using channel = await openAs(server, '/ci/team-a')
  const { results } = await channel.client(entryService).batchCreateEntry({ entries: [
    webOf('team-a'), { ...webOf('team-a'), spiffeId: id('/team-a/db') }
  ] })
  t.match(results, [{ status: { code: 6 }, entry: undefined }, { status: { code: 6 }, entry: { spiffeId: id('/team-a/db') } }])
})
