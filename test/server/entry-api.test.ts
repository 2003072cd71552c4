import t from 'tap'
import { encodeBundle } from '../../src/wire/bundle-codec.ts'
import { bundleService } from '../../src/wire/generated/server-bundle.ts'
import { entryService } from '../../src/wire/generated/server-entry.ts'
import { svidService } from '../../src/wire/generated/server-svid.ts'
import type { EntryInit } from '../../src/wire/generated/types.ts'
import { attest, createJoinToken, openServerChannel } from '../fakes/agent-client.ts'
import { createTestAuthority } from '../fakes/authority.ts'
import { startTestServer, type TestServer } from '../fakes/server.ts'

const id = (path: string) => ({ trustDomain: 'example.org', path })
const unix = (uid: number) => ({ type: 'unix', value: `uid:${uid}` })

async function create (server: TestServer, entries: readonly EntryInit[]) {
  return (await server.admin.client(entryService).batchCreateEntry({ entries })).results
}

void t.test('a batch answers item by item, in order (spire-surface §1.5)', async t => {
  await using server = await startTestServer()
  const good = { spiffeId: id('/web'), parentId: id('/node'), selectors: [unix(1)] }
  const results = await create(server, [
    good,
    { ...good },
    { ...good, spiffeId: id('/spire/server') },
    { ...good, spiffeId: id('/x'), selectors: [] },
    { ...good, spiffeId: { trustDomain: 'other.org', path: '/x' } },
    { ...good, spiffeId: id('/db'), id: 'chosen' }
  ])
  t.match(results.map(result => [result.status?.code, result.status?.message]), [
    [0, 'OK'],
    [6, 'similar entry already exists'],
    [3, /^failed to convert entry: invalid spiffe ID: /],
    [3, 'failed to convert entry: selector list is empty'],
    [3, /^failed to convert entry: invalid spiffe ID: /],
    [0, 'OK']
  ])
  t.equal(results[1]?.entry?.id, results[0]?.entry?.id, 'the similar entry comes with the refusal')
  t.equal(results[5]?.entry?.id, 'chosen')
})

void t.test('what SPIRE leaves to its datastore to refuse says so (spire-surface §1.1, §3.1)', async t => {
  await using server = await startTestServer()
  const entries = server.admin.client(entryService)
  const good = { spiffeId: id('/web'), parentId: id('/node'), selectors: [unix(1)] }
  await create(server, [{ ...good, id: 'taken' }, { ...good, id: 'other', spiffeId: id('/other') }])
  const mixed = { storeSvid: true, selectors: [unix(1), { type: 'k8s', value: 'x' }] }
  const refused: ReadonlyArray<readonly [EntryInit, number, RegExp]> = [
    [{ x509SvidTtl: -1 }, 3, /^failed to VERB entry: datastore-validation: invalid registration entry: X509SvidTtl is not set$/],
    [{ jwtSvidTtl: -1 }, 3, /^failed to VERB entry: datastore-validation: invalid registration entry: JwtSvidTtl is not set$/],
    [mixed, 3, /^failed to VERB entry: datastore-validation: invalid registration entry: selector types must be the same when store SVID/],
    [{ dnsNames: ['a b'] }, 3, /^failed to convert entry: invalid DNS name: /],
    [{ federatesWith: ['unknown.test'] }, 13, /^failed to VERB entry: unable to find federated bundle "spiffe:\/\/unknown.test"$/]
  ]
  const text = (pattern: RegExp, verb: string) => new RegExp(pattern.source.replace('VERB', verb))
  const created = await create(server, refused.map(([change]) => ({ ...good, spiffeId: id('/new'), ...change })))
  const { results: updated } = await entries.batchUpdateEntry({ entries: refused.map(([change]) => ({ ...good, id: 'taken', ...change })) })
  for (const [index, [, code, pattern]] of refused.entries()) {
    t.match(created[index]?.status, { code, message: text(pattern, 'create') }, `create: ${pattern.source}`)
    t.match(updated[index]?.status, { code, message: text(pattern, 'update') }, `update: ${pattern.source}`)
  }
  const fresh = { ...good, spiffeId: id('/new') }
  const [taken, badId] = await create(server, [{ ...fresh, id: 'taken' }, { ...fresh, id: 'a/b' }])
  t.match(taken?.status, { code: 6, message: /^failed to create entry: datastore-sql: / }, 'an ID that is taken')
  t.match(badId?.status, {
    code: 3, message: /^failed to create entry: datastore-validation: invalid registration entry: entry ID contains invalid characters/
  })
  const { results: [alike] } = await entries.batchUpdateEntry({ entries: [{ ...good, id: 'other' }] })
  t.match(alike?.status, { code: 6, message: /^failed to update entry: datastore-sql: / }, 'an update that makes two entries alike')

  const bundles = server.admin.client(bundleService)
  const { bundle } = await createTestAuthority('partner.test')
  await bundles.batchSetFederatedBundle({ bundle: [encodeBundle(bundle)] })
  await entries.batchUpdateEntry({ entries: [{ id: 'taken', federatesWith: ['partner.test'] }], inputMask: { federatesWith: true } })
  const { results: [used] } = await bundles.batchDeleteFederatedBundle({ trustDomains: ['partner.test'], mode: 0 })
  t.match(used?.status, {
    code: 9, message: 'failed to delete federated bundle: datastore-sql: cannot delete bundle; federated with 1 registration entries'
  })
})

void t.test('updates replace what the mask names and nothing else', async t => {
  await using server = await startTestServer()
  const entries = server.admin.client(entryService)
  const [made] = await create(server, [
    { spiffeId: id('/web'), parentId: id('/node'), selectors: [unix(1)], hint: 'a', x509SvidTtl: 60, dnsNames: ['a.test'] }
  ])
  const entry = made?.entry as NonNullable<typeof made>['entry'] & {}
  const { results: masked } = await entries.batchUpdateEntry(
    { entries: [{ id: entry.id, hint: 'b', admin: true }], inputMask: { hint: true } }
  )
  t.match(masked[0], { status: { code: 0 }, entry: {
    hint: 'b', admin: false, x509SvidTtl: 60, dnsNames: ['a.test'], revisionNumber: 1n, createdAt: entry.createdAt
  } })
  const { results: whole } = await entries.batchUpdateEntry({
    entries: [{ id: entry.id, spiffeId: id('/web'), parentId: id('/node'), selectors: [unix(2)], revisionNumber: 77, createdAt: 1 }]
  })
  t.match(whole[0]?.entry, { hint: '', x509SvidTtl: 0, dnsNames: [], revisionNumber: 2n, createdAt: entry.createdAt, selectors: [unix(2)] })
  const { results: bad } = await entries.batchUpdateEntry(
    { entries: [{ id: 'nobody', hint: 'x' }, { id: '' }, { id: entry.id, spiffeId: id('') }], inputMask: { hint: true, spiffeId: true } }
  )
  t.same(bad.map(result => result.status?.code), [5, 5, 3])
})

void t.test('masks keep the id; deletes and look-ups say what is missing', async t => {
  await using server = await startTestServer()
  const entries = server.admin.client(entryService)
  const [made] = await create(server, [{ spiffeId: id('/web'), parentId: id('/node'), selectors: [unix(1)], hint: 'h' }])
  const entryId = made?.entry?.id ?? ''
  const shown = await entries.getEntry({ id: entryId, outputMask: { hint: true } })
  t.match(shown, { id: entryId, hint: 'h', spiffeId: undefined, selectors: [] })
  await t.rejects(entries.getEntry({ id: 'nobody' }), { status: 'NOT_FOUND', message: 'entry not found' })
  await t.rejects(entries.getEntry({}), { status: 'INVALID_ARGUMENT', message: 'missing ID' })
  const { results } = await entries.batchDeleteEntry({ ids: ['', 'nobody', entryId] })
  t.same(results.map(result => [result.id, result.status?.code]), [['', 3], ['nobody', 5], [entryId, 0]])
  t.equal((await entries.countEntries({})).count, 0)
})

void t.test('an SVID for an entry that is not named: INVALID_ARGUMENT for X.509, NOT_FOUND for JWT (spire-surface §1.6)', async t => {
  await using server = await startTestServer()
  await using agent = openServerChannel(server, await attest(server))
  const svids = agent.client(svidService)
  const { results } = await svids.batchNewX509SVID({ params: [{}] })
  t.match(results[0]?.status, { code: 3, message: 'missing entry ID' })
  await t.rejects(svids.newJWTSVID({ audience: ['a'] }), { status: 'NOT_FOUND', message: 'entry not found or not authorized' })
})

void t.test('paging walks all rows and ends with an empty token', async t => {
  await using server = await startTestServer()
  const entries = server.admin.client(entryService)
  await create(server, Array.from({ length: 7 }, (_, index) => (
    { spiffeId: id(`/w${index}`), parentId: id('/node'), selectors: [unix(1)] }
  )))
  const seen: string[] = []
  let pageToken = ''
  do {
    const page = await entries.listEntries({ pageSize: 3, pageToken })
    seen.push(...page.entries.map(entry => entry.spiffeId?.path ?? ''))
    pageToken = page.nextPageToken
  } while (pageToken !== '')
  t.same(seen, ['/w0', '/w1', '/w2', '/w3', '/w4', '/w5', '/w6'])
  await t.rejects(entries.listEntries({ pageSize: 3, pageToken: 'x' }), { status: 'INTERNAL', message: /could not parse token/ })
  await t.rejects(entries.listEntries(
    { filter: { bySelectors: { selectors: [], match: 0 } } }
  ), { name: 'RpcError', status: 'INVALID_ARGUMENT' })
})

void t.test('an agent synchronises 1 200 entries by revision, then only what changed (spire-surface §2.3)', async t => {
  await using server = await startTestServer()
  const token = await createJoinToken(server)
  await using agent = openServerChannel(server, await attest(server, token))
  const parentId = id(`/spire/agent/join_token/${token}`)
  await create(server, Array.from({ length: 1200 }, (_, index) => ({ spiffeId: id(`/w${index}`), parentId, selectors: [unix(index)] })))
  const client = agent.client(entryService)
  const ask: Array<(value: { ids?: string[], outputMask?: object } | undefined) => void> = []
  const requests = (async function * () {
    yield { outputMask: { spiffeId: true, revisionNumber: true } }
    for (;;) {
      const next = await new Promise<{ ids?: string[] } | undefined>(resolve => ask.push(resolve))
      if (next === undefined) return
      yield next
    }
  })()
  const answers = client.syncAuthorizedEntries(requests)[Symbol.asyncIterator]()
  const revisions: string[] = []
  for (let more = true; more;) {
    const { value } = await answers.next()
    t.equal(value.entries.length, 0)
    t.ok(value.entryRevisions.length <= 500)
    revisions.push(...value.entryRevisions.map((revision: { id: string }) => revision.id))
    more = value.more
  }
  t.equal(new Set(revisions).size, 1200)
  /** The client asks for the next request when the one before has left. */
  const send = async (request: { ids: string[] } | undefined) => {
    while (ask.length === 0) await new Promise(resolve => setImmediate(resolve))
    ask.shift()?.(request)
  }
  await send({ ids: [revisions[3] as string, 'unknown'] })
  const { value } = await answers.next()
  t.equal(value.entries.length, 1, 'unknown ids are left out in silence')
  t.match(value, { more: false, entries: [{ id: revisions[3], selectors: [] }] })
  await send(undefined)
  t.same((await answers.next()).done, true)

  const first = async (message: object) => { for await (
    const _ of client.syncAuthorizedEntries((async function * () { yield message })())
  ) return }
  await t.rejects(first({ ids: ['x'] }), { name: 'RpcError', status: 'INVALID_ARGUMENT' })
  await t.rejects(first({ outputMask: { spiffeId: true } }), { name: 'RpcError', status: 'INVALID_ARGUMENT' })
})
