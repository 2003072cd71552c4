import { readFileSync, statSync } from 'node:fs'
import t, { type Test } from 'tap'
import { savedTables, tables } from '../../src/storage/backup/tables.ts'
import { backUp, dump, everyDatabase, fill, inShort, move, newFile, restore, withStore } from './backup-fixture.ts'
import { draft, type DatabaseKind } from './fixture.ts'

const kinds = await everyDatabase(t)

for (const from of kinds) {
  await t.test(`every table and column of ${from.kind} is copied, or belongs to one life of a database`, t => checkTables(t, from))
  for (const to of kinds) {
    await t.test(`a backup of ${from.kind} restored to ${to.kind} is the same, row by row`, t => roundTrip(t, from, to))
    await t.test(`${from.kind} moves to ${to.kind}`, t => moving(t, from, to))
  }
}

async function checkTables (t: Test, database: DatabaseKind): Promise<void> {
  const url = await database.fresh(t)
  await withStore(url, async () => {})
  const query = database.kind === 'sqlite'
    ? 'select m.name as name, c.name as column from sqlite_schema m, pragma_table_info(m.name) c where m.type = \'table\' ' +
      'and m.name not like \'sqlite_%\''
    : 'select table_name as name, column_name as column from information_schema.columns where table_schema = current_schema()'
  const found = new Map<string, string[]>()
  for (const { name, column } of await database.execute(url, query)) {
    found.set(String(name), [...found.get(String(name)) ?? [], String(column)].toSorted())
  }
  const belonging = ['agent_progress', 'change_log', 'log_head', 'partner_states', 'replicas', 'schema_migrations', 'service_endpoints']
  t.strictSame([...found.keys()].toSorted(), [...belonging, ...tables.map(({ name }) => name)].toSorted())
  for (const { name, columns } of tables) t.strictSame(found.get(name), Object.keys(columns).toSorted(), name)
}

async function roundTrip (t: Test, from: DatabaseKind, to: DatabaseKind): Promise<void> {
  const [url, target, file] = [await from.fresh(t), await to.fresh(t), newFile(t)]
  const before = await withStore(url, async store => {
    await fill(store)
    return await store.log.head()
  })
  const header = await backUp(url, file)
  t.match(header, { trustDomain: 'example.org', number: before.number, database: from.kind, counts: { entries: 1_102, agents: 2 } })
  t.equal(statSync(file).mode & 0o777, 0o600)
  const { identities, findings, epoch } = await restore(file, target)
  t.match({ identities, findings }, { identities: 'empty', findings: [] })

  const copied = savedTables.map(({ name }) => name).filter(name => name !== 'leases' && name !== 'bundles')
  t.strictSame(await dump(to, target, copied), await dump(from, url, copied))
  await withStore(url, async one => withStore(target, async two => {
    const everyBundle = async (store: typeof one) => (await store.bundles.list({ size: 0, token: '' })).bundles
    const [own, ...others] = await everyBundle(two)
    t.strictSame([{ ...own, sequenceNumber: 7n }, ...others], await everyBundle(one), 'bundles')
    t.equal(own?.sequenceNumber, 1_000_007n, 'partners have seen no later number of the own bundle')
    t.strictSame(await two.entries.get('full'), await one.entries.get('full'))
    await t.rejects(two.joinTokens.check('a-token', new Date(0)), { code: 'join_token_invalid' }, 'a token may have been used since')
    t.match(await two.progress.list(), [])
  }))
  await checkNewLife(t, target, { before, epoch })

  const again = newFile(t)
  await backUp(target, again)
  const rows = (path: string) => readFileSync(path, 'utf8').split('\n')
    .filter(line => line.startsWith('[') && !line.includes('"chores"') && !line.includes('"example.org","')).join('\n')
  t.equal(rows(again), rows(file), 'a backup of it says the same')
}

/** Whoever stood in the old log reads everything anew, and whoever held a lease holds none. */
async function checkNewLife (
  t: Test, url: string, { before, epoch }: { readonly before: { readonly epoch: string, readonly number: number }, readonly epoch: string }
): Promise<void> {
  await withStore(url, async store => {
    const head = await store.log.head()
    t.not(head.epoch, before.epoch)
    t.ok(head.epoch.startsWith(epoch), 'the epoch that was told')
    t.equal(head.number, before.number)
    t.strictSame(await store.log.read(before), { kind: 'lost' })
    t.match(await store.log.read(head), { kind: 'changes', more: false })
    const old = store.leases.fenced('chores', { holder: 'somebody', token: 1 })
    await t.rejects(old.keys.put('k', new Uint8Array()), { code: 'lease_lost' }, 'the token of the old life')
    const lease = await store.leases.acquire('chores', 'other', 1_000)
    t.match(lease, { holder: 'other' })
    t.ok(lease.token > 2)
    // Rows are numbered on: nothing meets what is there.
    t.match(await store.entries.createMany([draft('new', { id: 'new' })]), [{ kind: 'created' }])
    await store.entries.deleteMany(['new'])
  })
}

async function moving (t: Test, from: DatabaseKind, to: DatabaseKind): Promise<void> {
  const [url, target] = [await from.fresh(t), await to.fresh(t)]
  const before = await withStore(url, async store => {
    await fill(store)
    return await store.log.head()
  })
  const names = tables.map(({ name }) => name).filter(name => name !== 'leases')
  const old = await dump(from, url)
  const told: string[] = []
  const { counts, epoch } = await move(url, target, {
    onRows: (what, done, total) => { told.push(`${what} ${done <= total}`) }
  })
  t.match(counts, { entries: 1_102, join_tokens: 1, wrapped_keys: 1 })
  t.strictSame(await dump(to, target, names), await dump(from, url, names), 'every row of every table, join tokens too')
  t.strictSame(await dump(from, url), old, 'the source is untouched')
  t.strictSame(new Set(told), new Set(['copied true', 'verified true']))
  await checkNewLife(t, target, { before, epoch })
  await t.rejects(move(url, target), { code: 'datastore_not_empty', message: /moves into an empty one only/ })
  const file = newFile(t)
  await backUp(target, file)
  t.strictSame(inShort(await restore(file, url, { force: true })), [], 'the old database is known as an earlier one of the same life')
}
