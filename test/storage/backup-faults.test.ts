import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import t, { type Test } from 'tap'
import { systemClock } from '../../src/runtime/clock.ts'
import { silentLogger } from '../../src/runtime/logger.ts'
import { codeOf } from '../../src/spiffe/errors.ts'
import { openToRead } from '../../src/storage/backup/open-database.ts'
import { readBackup } from '../../src/storage/backup/read-backup.ts'
import type { Datastore } from '../../src/storage/datastore.ts'
import { openDatastore } from '../../src/storage/open-datastore.ts'
import { backUp, dump, everyDatabase, everything, fill, move, newFile, restore, withStore } from './backup-fixture.ts'
import { draft, type DatabaseKind } from './fixture.ts'

for (const database of await everyDatabase(t)) {
  await t.test(`${database.kind}: a backup under writes is one state, and nobody waits for it`, t => backupUnderWrites(t, database))
  await t.test(`${database.kind}: a server that starts during a restore`, t => startDuringRestore(t, database))
  await t.test(`${database.kind}: kill -9 in the middle of a restore leaves what was there`, t => killRestore(t, database))
  await t.test(`${database.kind}: kill -9 in the middle of a move leaves the target empty`, t => killMove(t, database))
}

async function backupUnderWrites (t: Test, database: DatabaseKind): Promise<void> {
  const url = await database.fresh(t)
  const size = 7
  const start = await withStore(url, async store => {
    await fill(store)
    return await store.log.head()
  })
  const program = join(import.meta.dirname, 'entry-writer.ts')
  const writer = spawn(process.execPath, [program, url, '0', `${size}`], { stdio: ['ignore', 'pipe', 'inherit'] })
  t.teardown(() => writer.kill('SIGKILL'))
  let acknowledged = -1
  const lines = createInterface({ input: writer.stdout as NodeJS.ReadableStream })
  lines.on('line', line => { acknowledged = Number(line) })
  const ended = once(lines, 'close').then(() => { throw new Error(`the writer ended: ${writer.exitCode ?? writer.signalCode}`) })
  ended.catch(() => {})
  const nextLine = () => Promise.race([once(lines, 'line'), ended])
  await using reader = await openToRead(url, silentLogger)
  await reader.database.snapshot(async trx => {
    const head = () => trx.selectFrom('log_head').selectAll().executeTakeFirstOrThrow()
    const seen = await head()
    // Whoever kept the writer from writing would wait for ever.
    for (let n = 0; n < 5; n++) await nextLine()
    t.strictSame(await head(), seen, 'what a backup reads from stands still while others write')
  })
  for (let round = 0; round < 4; round++) {
    await nextLine()
    const before = acknowledged
    const file = newFile(t)
    const header = await backUp(url, file)
    const batches = await batchesIn(file)
    t.ok([...batches.values()].every(count => count === size), `no batch in part, of ${batches.size}`)
    t.equal(batches.size, header.number - start.number, 'as many as the log says')
    t.strictSame([...batches.keys()], Array.from(batches.keys(), (_, n) => `b${n}`), 'in their order, without a gap')
    t.ok(batches.size > before, 'what was acknowledged before is in it')
    const target = await database.fresh(t)
    await restore(file, target)
    t.equal(await withStore(target, store => store.entries.count({ hint: 'b0' })), size)
  }
}

/** Entries by batch, in the order of the file. */
async function batchesIn (file: string): Promise<Map<string, number>> {
  const batches = new Map<string, number>()
  for await (const { table, columns, rows } of readBackup(file, () => {})) {
    if (table.name !== 'entries') continue
    for (const row of rows) {
      const hint = String(row[columns.indexOf('hint')])
      if (/^b\d+$/.test(hint)) batches.set(hint, (batches.get(hint) ?? 0) + 1)
    }
  }
  return batches
}

async function startDuringRestore (t: Test, database: DatabaseKind): Promise<void> {
  const [url, file] = [await database.fresh(t), newFile(t)]
  await withStore(url, fill)
  await backUp(url, file)
  await withStore(url, store => store.entries.deleteMany(['many-1', 'many-2']))
  let started = false
  let early = false
  let starting: Promise<Datastore | { readonly refused: unknown }> | undefined
  const { epoch } = await restore(file, url, {
    force: true,
    onRows (what) {
      if (what !== 'restored') return
      starting ??= openDatastore(url, { clock: systemClock, log: silentLogger })
        .catch((error: unknown) => ({ refused: codeOf(error) })).finally(() => { started = true })
      early ||= started
    }
  })
  const outcome = await starting
  if (database.kind === 'sqlite') {
    t.strictSame(outcome, { refused: 'datastore_locked' })
    return
  }
  await using store = outcome as Datastore
  t.notOk(early, 'it waits')
  t.ok((await store.log.head()).epoch.startsWith(epoch), 'and sees nothing of before')
  t.equal(await store.entries.count({}), 1_102)
}

async function killRestore (t: Test, database: DatabaseKind): Promise<void> {
  const [url, file] = [await database.fresh(t), newFile(t)]
  await withStore(url, fill)
  await backUp(url, file)
  await withStore(url, async store => {
    await store.entries.deleteMany(['many-1'])
    await store.entries.createMany([draft('later')])
  })
  const before = await dump(database, url, everything)
  for (const after of [1, 4, 7]) {
    t.equal(await killAfter(t, ['restore', file, url], 'restored', after), 'SIGKILL')
    t.strictSame(await dump(database, url, everything), before, `killed after ${after} pieces`)
  }
  await restore(file, url, { force: true })
  t.ok(await withStore(url, store => store.entries.get('many-1')), 'nothing of them is in the way')
}

async function killMove (t: Test, database: DatabaseKind): Promise<void> {
  const [url, target] = [await database.fresh(t), await database.fresh(t)]
  await withStore(url, fill)
  const before = await dump(database, url, everything)
  const anything = database.kind === 'sqlite'
    ? 'select name from sqlite_schema'
    : 'select table_name from information_schema.tables where table_schema = current_schema()'
  for (const [what, after] of [['copied', 2], ['verified', 3]] as const) {
    t.equal(await killAfter(t, ['move', url, target], what, after), 'SIGKILL')
    t.strictSame(await database.execute(target, anything), [], `killed after ${after} pieces were ${what}`)
  }
  t.strictSame(await dump(database, url, everything), before, 'the source is untouched')
  await move(url, target)
  t.equal(await withStore(target, store => store.entries.count({})), 1_102, 'and can go ahead')
}

/** Runs the worker until it has told so often that some more is done, and is killed. @returns the signal that ended it */
async function killAfter (t: Test, words: readonly string[], what: string, pieces: number): Promise<NodeJS.Signals | null> {
  const program = join(import.meta.dirname, 'backup-worker.ts')
  const worker = spawn(process.execPath, [program, ...words, what, String(pieces)], { stdio: ['ignore', 'ignore', 'inherit'] })
  t.teardown(() => worker.kill('SIGKILL'))
  await once(worker, 'exit')
  return worker.signalCode
}
