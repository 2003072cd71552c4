import type { Test } from 'tap'
import type { Entry } from '../../src/spiffe/entry.ts'
import { codeOf, SpiffeError } from '../../src/spiffe/errors.ts'
import type { CreateOutcome } from '../../src/storage/entry-store.ts'
import { bundle, domain, draft, everyPage, id, openFresh, selectors, type DatabaseKind } from './fixture.ts'

const uuid4 = /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/

function made (outcome: CreateOutcome | undefined): Entry {
  if (outcome?.kind !== 'created') throw new Error(`not created: ${JSON.stringify(outcome)}`)
  return outcome.entry
}

function verdicts (outcomes: readonly CreateOutcome[]): string[] {
  return outcomes.map(outcome => outcome.kind === 'refused' ? outcome.error.code : outcome.kind)
}

function namesOf (entries: readonly Entry[]): string[] {
  return entries.map(entry => entry.spiffeId.replace('spiffe://example.org/', ''))
}

function codesOf (outcomes: ReadonlyArray<Entry | SpiffeError>): string[] {
  return outcomes.map(outcome => outcome instanceof SpiffeError ? outcome.code : `revision ${outcome.revisionNumber}`)
}

export async function entryContract (t: Test, database: DatabaseKind): Promise<void> {
  await t.test('an entry comes back as it was given', async t => {
    const { store } = await openFresh(t, database)
    await store.bundles.set(bundle('a.test'))
    await store.bundles.set(bundle('b.test'))
    const given = draft('full', {
      id: 'entry-1',
      selectors: selectors('unix:uid:1', 'k8s:ns:"it\'s"; drop table entries; --', 'docker:label:ä\n:漢', `x:${'v'.repeat(60_000)}`),
      x509SvidTtlSeconds: 2_147_483_647,
      jwtSvidTtlSeconds: 5,
      federatesWith: [domain('b.test'), domain('a.test'), domain('b.test')],
      dnsNames: ['z.example.org', 'a.example.org'],
      admin: true,
      downstream: true,
      storeSvid: true,
      hint: 'hint \'"\\ 漢',
      expiresAtSeconds: 253_402_300_799,
      additionalAttributes: { disableX509SvidPrefetch: true, jwtSvidIncludeJti: true }
    })
    const entry = made((await store.entries.createMany([given]))[0])
    t.strictSame(entry, {
      ...given,
      revisionNumber: 0,
      createdAtSeconds: Date.parse('2026-01-01') / 1000,
      federatesWith: ['a.test', 'b.test'],
      selectors: [given.selectors[2], given.selectors[1], given.selectors[0], given.selectors[3]]
    }, 'selectors and domains sorted, DNS names in the given order, all else equal')
    t.strictSame(await store.entries.get('entry-1'), entry, 'stored as it was answered')
    t.strictSame(await store.entries.getMany(['unknown', 'entry-1', 'entry-1']), [entry])
    t.equal(await store.entries.get('unknown'), undefined)
    const [first, second] = await store.entries.createMany([draft('one'), draft('two')])
    t.match(made(first).id, uuid4, 'an empty id becomes a UUIDv4')
    t.not(made(first).id, made(second).id)
  })

  await t.test('each draft of a batch has its own outcome', async t => {
    const { store } = await openFresh(t, database)
    t.strictSame(await store.entries.createMany([]), [])
    const [stored] = await store.entries.createMany([draft('stored', { id: 'taken', selectors: selectors('a:1', 'a:2') })])
    const outcomes = await store.entries.createMany([
      draft('new', { id: 'new' }),
      draft('stored', { selectors: selectors('a:2', 'a:1', 'a:2'), hint: 'other' }),
      draft('new', { hint: 'other' }),
      draft('clash', { id: 'taken' }),
      draft('clash', { id: 'new' }),
      draft('friend', { federatesWith: [domain('a.test')] }),
      draft('bare', { selectors: [] }),
      draft('nul', { hint: 'a\0' }),
      draft('stored', { selectors: selectors('a:1') }),
      draft('stored', { selectors: selectors('a:1', 'a:2'), parentId: id('/spire/server') })
    ])
    t.strictSame(verdicts(outcomes), [
      'created', 'similar', 'similar', 'entry_exists', 'entry_exists', 'federated_bundle_unknown', 'entry_malformed', 'entry_malformed',
      'created', 'created'
    ])
    t.strictSame(outcomes[1], { kind: 'similar', entry: made(stored) }, 'the entry that was there is given')
    t.strictSame(outcomes[2], { kind: 'similar', entry: made(outcomes[0]) }, 'the first of the batch is given')
    t.match(outcomes[5], { error: { message: 'unable to find federated bundle "spiffe://a.test"' } }, 'in SPIRE\'s words')
    t.equal(await store.entries.count({}), 4, 'what was refused left nothing')
    await store.entries.deleteMany(['new'])
    const again = await store.entries.createMany([
      draft('stored', { id: 'free', selectors: selectors('a:1', 'a:2') }), draft('x', { id: 'free' })
    ])
    t.strictSame(verdicts(again), ['similar', 'created'], 'a draft that was not stored takes no id')
  })

  await t.test('batches larger than a statement takes', async t => {
    const { store } = await openFresh(t, database)
    const many = Array.from({ length: 20 }, (_, n) => `s:${n}`)
    const outcomes = await store.entries.createMany(
      Array.from({ length: 5_600 }, (_, n) => draft(`w${n}`, n % 100 === 0 ? { selectors: selectors(...many) } : {})))
    t.ok(outcomes.every(({ kind }) => kind === 'created'))
    const ids = outcomes.map(outcome => made(outcome).id)
    t.strictSame((await store.entries.getMany(ids)).map(entry => entry.id), ids, 'in the order of creation')
    const seen: string[] = []
    for await (const entry of store.entries.all()) seen.push(entry.id)
    t.strictSame(seen, ids, 'all() gives each once, across chunks')
    t.equal((await store.entries.list({}, everyPage)).entries.length, 5_600, 'page size 0 is everything')
    t.equal((await store.entries.deleteMany(ids)).filter(outcome => outcome instanceof SpiffeError).length, 0)
    t.equal(await store.entries.count({}), 0)
  })

  await t.test('an update changes what it names', async t => {
    const { store } = await openFresh(t, database)
    await store.bundles.set(bundle('a.test'))
    const created = await store.entries.createMany([draft('a', { id: 'a', hint: 'h' }), draft('b', { id: 'b' })])
    const [a, b] = created.map(made) as [Entry, Entry]
    const change = { selectors: selectors('y:2', 'x:1'), federatesWith: [domain('a.test')] }
    const [updated] = await store.entries.updateMany([{ id: 'a', change }])
    t.strictSame(updated, { ...a, selectors: selectors('x:1', 'y:2'), federatesWith: ['a.test'], revisionNumber: 1 })
    t.strictSame(await store.entries.get('a'), updated)
    const bySelector = (text: string) => store.entries.count({ selectors: { match: 'any', values: selectors(text) } })
    t.strictSame([await bySelector('x:1'), await bySelector('unix:uid:1000')], [1, 1], 'filters see the new set, not the old one')
    t.strictSame(codesOf(await store.entries.updateMany([
      { id: 'unknown', change: { hint: 'x' } },
      { id: 'a', change: { spiffeId: b.spiffeId, selectors: b.selectors } },
      { id: 'b', change: { federatesWith: [domain('b.test')] } },
      { id: 'b', change: { selectors: [] } },
      { id: 'b', change: { spiffeId: id('/elsewhere') } },
      { id: 'a', change: { spiffeId: b.spiffeId, selectors: b.selectors, federatesWith: [] } },
      { id: 'a', change: {} }
    ])), ['entry_not_found', 'entry_exists', 'federated_bundle_unknown', 'entry_malformed', 'revision 1', 'revision 2', 'revision 3'],
    'in turn: a becomes like b once b has moved away')
    t.strictSame(await store.entries.get('a'), { ...a, spiffeId: id('/b'), revisionNumber: 3 })
    t.equal(await store.entries.count({ federatesWith: { match: 'any', values: [domain('a.test')] } }), 0)
    t.strictSame(verdicts(await store.entries.createMany([draft('b')])), ['similar'], 'similarity follows the update')
  })

  await t.test('deletion says what went', async t => {
    const { store } = await openFresh(t, database)
    const [a] = (await store.entries.createMany([draft('a', { id: 'a' }), draft('b', { id: 'b' })])).map(made)
    const outcomes = await store.entries.deleteMany(['a', 'unknown', 'a'])
    t.strictSame(outcomes[0], a)
    t.strictSame(codesOf(outcomes), ['revision 0', 'entry_not_found', 'entry_not_found'])
    t.strictSame(namesOf((await store.entries.list({}, everyPage)).entries), ['b'])
    t.equal(await store.entries.count({ selectors: { match: 'any', values: selectors('unix:uid:1000') } }), 1)
  })

  await t.test('expired entries go, others stay', async t => {
    const { store } = await openFresh(t, database)
    await store.entries.createMany([
      draft('never'),
      draft('past', { expiresAtSeconds: 99 }),
      draft('now', { expiresAtSeconds: 100 }),
      draft('later', { expiresAtSeconds: 101 })
    ])
    t.strictSame(namesOf(await store.entries.deleteExpired(new Date(100_999))), ['past', 'now'])
    t.strictSame(namesOf((await store.entries.list({}, everyPage)).entries), ['never', 'later'])
  })

  await t.test('pages', async t => {
    const { store } = await openFresh(t, database)
    await store.entries.createMany(Array.from({ length: 7 }, (_, n) => draft(`w${n}`, { id: `w${n}`, hint: n % 2 === 0 ? 'even' : 'odd' })))
    const pages: string[][] = []
    for (let token = ''; ;) {
      const page = await store.entries.list({}, { size: 3, token })
      pages.push(namesOf(page.entries))
      token = page.nextPageToken
      if (pages.length === 1) {
        t.match(token, /^\d+$/, 'the token is a decimal row id')
        await store.entries.deleteMany(['w2', 'w3'])
      }
      if (token === '') break
    }
    t.strictSame(pages, [['w0', 'w1', 'w2'], ['w4', 'w5', 'w6'], []], 'the walk ends with an empty page; deletions shift nothing')
    const even = await store.entries.list({ hint: 'even' }, { size: 2, token: '' })
    t.strictSame(namesOf(even.entries), ['w0', 'w4'], 'full pages under a filter')
    for (const token of ['4294967297', '18446744073709551615']) {
      t.strictSame(await store.entries.list({}, { size: 3, token }), { entries: [], nextPageToken: '' }, 'ids beyond 32 bits are legal')
    }
    for (const token of ['x', '-1', '1.5', ' 1', '1e3', '0x1', '18446744073709551616', '9'.repeat(100)]) {
      const refusal = { code: 'page_token_malformed', message: /^could not parse token/ }
      await t.rejects(store.entries.list({}, { size: 3, token }), refusal, token)
    }
  })

  await t.test('many writers at once', async t => {
    const { store } = await openFresh(t, database)
    const drafts = Array.from({ length: 20 }, (_, n) => draft(`w${n}`))
    const rounds = await Promise.all(Array.from({ length: 20 }, (_, n) =>
      n % 2 === 0 ? store.entries.createMany(drafts)
        : store.entries.createMany(drafts.toReversed()).then(outcomes => outcomes.toReversed())))
    t.equal(await store.entries.count({}), 20)
    for (const [n] of drafts.entries()) {
      const outcomes = rounds.map(round => round[n])
      t.equal(outcomes.filter(outcome => outcome?.kind === 'created').length, 1, `w${n} was created once`)
      const ids = new Set(outcomes.map(outcome => outcome?.kind === 'refused' ? 'refused' : outcome?.entry.id))
      t.equal(ids.size, 1, 'all were told of the same entry')
    }
    const [first] = rounds.flatMap(round => round.filter(outcome => outcome.kind === 'created').map(made))
    const revised = await Promise.all(Array.from({ length: 20 }, (_, n) =>
      store.entries.updateMany([{ id: first?.id ?? '', change: { hint: String(n) } }])))
    const revisions = Array.from({ length: 20 }, (_, n) => `revision ${n + 1}`)
    t.strictSame(codesOf(revised.flat()).toSorted(), revisions.toSorted(), 'no update was lost')
  })

  await t.test('an empty or an endless set is refused', async t => {
    const { store } = await openFresh(t, database)
    const endless = selectors(...Array.from({ length: 10_001 }, (_, n) => `n:${n}`))
    for (const filter of [
      { selectors: { match: 'any' as const, values: [] } }, { federatesWith: { match: 'exact' as const, values: [] } },
      { selectors: { match: 'subset' as const, values: endless } }
    ]) {
      t.equal(codeOf(await store.entries.list(filter, everyPage).catch((error: unknown) => error)), 'argument_invalid')
      t.equal(codeOf(await store.entries.count(filter).catch((error: unknown) => error)), 'argument_invalid')
    }
    t.equal(await store.entries.count({ selectors: { match: 'subset', values: endless.slice(1) } }), 0, '10 000 are taken')
  })

  await t.test('a filter of the caller\'s own fills pages and counts', async t => {
    const { store } = await openFresh(t, database)
    const names = Array.from({ length: 12 }, (_, n) => n % 3 === 0 ? `keep/${n}` : `drop/${n}`)
    await store.entries.createMany(names.map(name => draft(name)))
    const keep = (entry: Entry) => entry.spiffeId.startsWith(`${id('/keep')}/`)
    const seen: string[][] = []
    for (let token = ''; ;) {
      const page = await store.entries.list({ keep }, { size: 3, token })
      token = page.nextPageToken
      if (page.entries.length > 0) seen.push(namesOf(page.entries))
      if (token === '') break
    }
    t.strictSame(seen, [['keep/0', 'keep/3', 'keep/6'], ['keep/9']])
    t.equal(await store.entries.count({ keep }), 4)
    t.equal((await store.entries.list({ keep }, everyPage)).entries.length, 4)
    t.equal(await store.entries.count({ keep, spiffeId: id('/drop/1') }), 0, 'beside what else is asked for')
  })

  await t.test('a guard sees what is stored and what it becomes, and refuses item by item', async t => {
    const { store } = await openFresh(t, database)
    await store.entries.createMany(['a', 'b', 'c'].map(name => draft(name, { id: name })))
    const refused = new SpiffeError('administration_denied', 'no')
    const asked: Array<readonly [string, string | undefined]> = []
    const outcomes = await store.entries.updateMany([
      { id: 'a', change: { hint: 'x' } }, { id: 'b', change: { hint: 'x' } }, { id: 'a', change: { hint: 'y' } }
    ], (before, after) => {
      asked.push([before.hint, after?.hint])
      return before.id === 'b' ? refused : undefined
    })
    t.strictSame(codesOf(outcomes), ['revision 1', 'administration_denied', 'revision 2'])
    t.strictSame(asked, [['', 'x'], ['', 'x'], ['x', 'y']], 'each update is asked about with what the one before it left')
    t.equal((await store.entries.get('b'))?.hint, '')
    const deleted = await store.entries.deleteMany(['c', 'b', 'a', 'none'], (before, after) =>
      before.id === 'b' || after !== undefined ? refused : undefined)
    t.strictSame(codesOf(deleted), ['revision 0', 'administration_denied', 'revision 2', 'entry_not_found'])
    t.equal(await store.entries.count({}), 1)
  })
}
