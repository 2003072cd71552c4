import t from 'tap'
import { DesiredState } from '../../src/controller/desired/desired-state.ts'
import { diffEntries, type StoredEntry } from '../../src/controller/desired/diff-entries.ts'
import { isOwnId } from '../../src/controller/desired/entry-key.ts'
import { EntryMirror } from '../../src/controller/server/entry-mirror.ts'
import { MadeUpCluster, scopeWith } from './cluster-fixture.ts'

const prefix = 'assay-controller.demo..'

/** Two pods that want an entry each, and what a server has. */
async function compare (stored: (entries: readonly StoredEntry[]) => readonly StoredEntry[]) {
  const cluster = new MadeUpCluster()
  cluster.addSpiffeId('pods', { ttl: '1h', dnsNameTemplates: ['b.test', 'a.test'], federatesWith: ['x.test', 'y.test'] })
  for (const name of ['a', 'b']) cluster.addPod(name)
  const desired = new DesiredState(scopeWith())
  const keys = new Set(desired.refresh(cluster))
  const wanted = [...desired.keys()].map(key => ({ ...desired.of(key)[0]?.entry as StoredEntry, id: prefix + key }))
  const mirror = new EntryMirror(prefix)
  const keyOf = (entry: StoredEntry) => {
    const pod = entry.selectors.find(({ value }) => value.startsWith('pod-uid:'))
    return [...desired.keys()].find(key => desired.of(key)[0]?.entry.selectors.some(({ value }) => value === pod?.value)) ?? 'f'.repeat(32)
  }
  async function * list () { for (const entry of stored(wanted)) yield { key: keyOf(entry), entry } }
  await mirror.read(list(), key => desired.of(key).length > 0)
  for (const key of mirror.keys()) keys.add(key)
  const changes = diffEntries(keys, key => desired.of(key), mirror, prefix)
  const ids = (entries: ReadonlyArray<{ readonly entry: { readonly id: string } }>) => entries.map(({ entry }) => entry.id).toSorted()
  return { wanted, changes, create: ids(changes.create), update: ids(changes.update), remove: ids(changes.remove) }
}

void t.test('what has to be done', async t => {
  const none = await compare(() => [])
  t.strictSame(none.create, none.wanted.map(({ id }) => id).toSorted(), 'created, with the prefix of who makes them')
  t.strictSame([none.update, none.remove], [[], []])

  const all = await compare(entries => entries.map(entry => ({
    ...entry, dnsNames: entry.dnsNames.toReversed(), federatesWith: entry.federatesWith.toReversed()
  })))
  t.strictSame([all.create, all.update, all.remove], [[], [], []], 'nothing; the order of names says nothing')

  const changed = await compare(([a, b]) => [{ ...a as StoredEntry, hint: 'x', x509SvidTtlSeconds: 1 }, b as StoredEntry])
  t.strictSame([changed.create, changed.remove], [[], []])
  t.match(changed.changes.update, [{ before: { hint: 'x' }, fields: ['x509SvidTtlSeconds', 'hint'] }], 'updated, with what differs')

  const gone = await compare(entries => [...entries, { ...entries[0] as StoredEntry, id: `${prefix}${'e'.repeat(32)}`, selectors: [] }])
  t.strictSame([gone.create, gone.update, gone.remove], [[], [], [`${prefix}${'e'.repeat(32)}`]], 'what nothing declares goes')
})

void t.test('what somebody else made is left alone', async t => {
  const foreign = await compare(([a]) => [{ ...a as StoredEntry, id: 'by-hand', hint: 'mine' }])
  t.equal(foreign.create.length, 1, 'the other pod gets its own')
  t.strictSame([foreign.update, foreign.remove], [[], []])
  t.strictSame([...foreign.changes.foreign.values()], ['by-hand'], 'and this is told')
  const undeclared = await compare(entries => [...entries, { ...entries[0] as StoredEntry, id: 'other', selectors: [] }])
  t.strictSame([undeclared.create, undeclared.update, undeclared.remove], [[], [], []], 'what nothing declares too')

  const uuid = `${prefix}3f1c2a90-1111-4222-8333-444455556666`
  const adopted = await compare(([a, b]) => [{ ...a as StoredEntry, id: uuid, hint: 'x' }, b as StoredEntry])
  t.strictSame([adopted.create, adopted.update, adopted.remove], [[], [uuid], []], 'one of spire-controller-manager is taken over')
  const twice = await compare(([a, b]) => [{ ...a as StoredEntry, id: uuid }, a as StoredEntry, b as StoredEntry])
  t.strictSame([twice.create, twice.update, twice.remove], [[], [], [uuid]], 'of two, the one by its own name stays')
})

void t.test('whose an ID is', async t => {
  const key = '0123456789abcdef0123456789abcdef'
  t.ok(isOwnId(`assay-controller.demo..${key}`, 'assay-controller.demo..'))
  t.notOk(isOwnId(`assay-controller.demo.blue.${key}`, 'assay-controller.demo..'), 'another class')
  t.notOk(isOwnId(`assay-controller.demo.blue..${key}`, 'assay-controller.demo.blue.'), 'a cluster whose name begins alike')
  t.notOk(isOwnId(`a.b.${key}`, 'a.'), 'a longer prefix')
  t.notOk(isOwnId('assay-controller.demo..by-hand', 'assay-controller.demo..'), 'a name that a person gave')
  t.notOk(isOwnId(key, 'a.'))
  t.ok(isOwnId('a.3f1c2a90-1111-4222-8333-444455556666', 'a.'))
})
