import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, readFileSync, statSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { DatabaseSync } from 'node:sqlite'
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'
import { systemClock } from '../../src/runtime/clock.ts'
import { silentLogger } from '../../src/runtime/logger.ts'
import { openDatastore } from '../../src/storage/open-datastore.ts'
import { datastoreContract } from './contract.ts'
import { draft, type DatabaseKind } from './fixture.ts'

const deps = { clock: systemClock, log: silentLogger }
let files = 0

const sqlite: DatabaseKind = {
  kind: 'sqlite',
  fresh: async t => `sqlite://${join(t.testdir(), `${++files}.db`)}`,
  execute: async (url, text) => {
    const database = new DatabaseSync(url.replace('sqlite://', ''))
    try {
      return database.prepare(text).all()
    } finally {
      database.close()
    }
  }
}

await datastoreContract(t, sqlite)

await t.test('the file is the owner\'s alone', async t => {
  const file = join(t.testdir(), 'made', 'deep', 'assay.db')
  const store = await openDatastore(file, deps)
  await store.entries.createMany([draft('a')])
  for (const path of [file, `${file}-wal`, `${file}.lock`]) t.equal(statSync(path).mode & 0o777, 0o600, path)
  t.equal(statSync(join(file, '..')).mode & 0o777, 0o700)
  await store[Symbol.asyncDispose]()
  t.notOk(existsSync(`${file}-wal`), 'closing leaves one file to copy')
  t.strictSame((await sqlite.execute(file, 'pragma journal_mode')).map(row => row.journal_mode), ['wal'])
})

await t.test('a second user of the file is refused, however it is named', async t => {
  const folder = t.testdir()
  const file = join(folder, 'assay.db')
  const store = await openDatastore(file, deps)
  symlinkSync(file, join(folder, 'link.db'))
  for (const name of [file, `sqlite://${file}`, join(folder, 'link.db')]) {
    const message = /assay\.db is in use by another server.*`assay datastore migrate --to postgres:.*datastore_url/
    await t.rejects(openDatastore(name, deps), { code: 'datastore_locked', message }, name)
  }
  await store.entries.createMany([draft('a')])
  await store[Symbol.asyncDispose]()
  await using again = await openDatastore(file, deps)
  t.equal(await again.entries.count({}), 1, 'free once it is closed')
})

await t.test('kill -9 loses nothing that was acknowledged', async t => {
  const file = join(t.testdir(), 'assay.db')
  const size = 7
  let acknowledged = -1
  for (let round = 0; round < 10; round++) {
    const first = acknowledged + 2
    const child = startWriter(t, file, first, size)
    const wanted = 1 + Math.floor(Math.random() * 60)
    let seen = 0
    for await (const line of createInterface({ input: child.stdout as NodeJS.ReadableStream })) {
      acknowledged = Number(line)
      if (++seen === 1 && round === 0) {
        await t.rejects(openDatastore(file, deps), { code: 'datastore_locked' }, 'another process is refused while it runs')
      }
      if (seen === wanted) child.kill('SIGKILL')
    }
    if (child.exitCode === null && child.signalCode === null) await once(child, 'exit')
    t.equal(child.signalCode, 'SIGKILL')
    await using store = await openDatastore(file, deps)
    const stored = new Map<string, number>()
    for await (const { hint } of store.entries.all()) stored.set(hint, (stored.get(hint) ?? 0) + 1)
    const lost = Array.from({ length: acknowledged - first + 1 }, (_, n) => `b${first + n}`).filter(batch => stored.get(batch) !== size)
    t.strictSame(lost, [], `round ${round}: ${acknowledged - first + 1} batches acknowledged`)
    t.strictSame([...stored].filter(([, count]) => count !== size), [], 'no batch is there in part')
  }
})

await t.test('a file that is no intact database of ours is refused', async t => {
  const folder = t.testdir()
  const path = (name: string) => join(folder, name)
  writeFileSync(path('garbage.db'), 'no database at all, but long enough to be read as one. '.repeat(100))
  await t.rejects(openDatastore(path('garbage.db'), deps), { code: 'datastore_corrupt', message: /garbage\.db/ })
  t.match(readFileSync(path('garbage.db'), 'utf8'), /^no database at all/, 'and left as it was')

  const store = await openDatastore(path('torn.db'), deps)
  await store.entries.createMany(Array.from({ length: 500 }, (_, n) => draft(`w${n}`)))
  await store[Symbol.asyncDispose]()
  truncateSync(path('torn.db'), 3 * 4096 + 100)
  await t.rejects((async () => {
    await using torn = await openDatastore(path('torn.db'), deps)
    for await (const entry of torn.entries.all()) t.ok(entry)
  })(), { code: 'datastore_corrupt', message: /torn\.db/ })

  const foreign = new DatabaseSync(path('foreign.db'))
  foreign.exec('create table bundles (x)')
  foreign.close()
  await t.rejects(openDatastore(path('foreign.db'), deps), { code: 'datastore_corrupt', message: /another program/ })
  const names = (await sqlite.execute(path('foreign.db'), 'select name from sqlite_schema')).map(row => row.name)
  t.strictSame(names, ['bundles'], 'untouched')

  mkdirSync(path('folder.db'))
  await t.rejects(openDatastore(path('folder.db'), deps), { code: 'datastore_unavailable', message: /folder\.db/ })
  await t.rejects(openDatastore(path('garbage.db/below.db'), deps), { code: 'file_unusable', message: /below\.db/ })
})

await t.test('addresses', async t => {
  const refused = ['', 'sqlite://relative.db', 'sqlite:file.db', 'sqlite:///', 'mysql://u:s3cret@h/d', 'postgres:u:s3cret@h/d',
    'postgres://u:s3cret@h:port/d', 'a\0b']
  for (const url of refused) {
    const error = await (async () => openDatastore(url, deps))().catch((error: unknown) => error)
    t.match(error, { code: 'config_invalid' }, JSON.stringify(url))
    t.notMatch(String(error), /s3cret/, 'no password in the message')
  }
})

function startWriter (t: Test, file: string, first: number, size: number): ChildProcess {
  const program = fileURLToPath(new URL('entry-writer.ts', import.meta.url))
  const child = spawn(process.execPath, [program, file, String(first), String(size)], { stdio: ['ignore', 'pipe', 'inherit'] })
  t.teardown(() => child.kill('SIGKILL'))
  return child
}
