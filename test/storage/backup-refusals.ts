import { createHash } from 'node:crypto'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import type { Test } from 'tap'
import { silentLogger } from '../../src/runtime/logger.ts'
import { systemClock } from '../../src/runtime/clock.ts'
import { newestSchema } from '../../src/storage/migrations/migrate.ts'
import { openDatastore } from '../../src/storage/open-datastore.ts'
import { backUp, dump, everything, fill, move, newFile, restore, withStore } from './backup-fixture.ts'
import { draft, type DatabaseKind } from './fixture.ts'

/** What is refused leaves the database as it was. */
export async function refusalContract (t: Test, database: DatabaseKind): Promise<void> {
  await t.test(`${database.kind}: files that are refused, and nothing is written`, async t => {
    const [url, file] = [await database.fresh(t), newFile(t)]
    await withStore(url, fill)
    await backUp(url, file)
    await withStore(url, store => store.entries.createMany([draft('later')]))
    const before = await dump(database, url, everything)
    const good = readFileSync(file, 'utf8')
    const lines = good.split('\n')
    const refused: Record<string, [text: string | Uint8Array, code: string, message: RegExp]> = {
      'empty': ['', 'backup_malformed', /empty/],
      'something else': ['{"name":"x"}\n', 'backup_malformed', /./],
      'one letter changed': [good.replace('many/17"', 'many/71"'), 'backup_malformed', /not the checksum/],
      'one row missing': [[...lines.slice(0, 40), ...lines.slice(41)].join('\n'), 'backup_malformed', /./],
      'cut off in a row': [good.slice(0, good.length / 2), 'backup_malformed', /./],
      'cut off after a row': [`${lines.slice(0, 100).join('\n')}\n`, 'backup_malformed', /./],
      'without the last byte': [good.slice(0, -1), 'backup_malformed', /not the checksum/],
      'with more behind it': [`${good}\n`, 'backup_malformed', /./],
      'no UTF-8': [
        Buffer.concat([Buffer.from(good.slice(0, 900)), Buffer.of(0xff), Buffer.from(good.slice(900))]), 'backup_malformed', /no UTF-8/
      ],
      'of a newer form': [sealed(good.replace('"assay_backup":1', '"assay_backup":2')), 'backup_newer', /of version .* has form 2/],
      'of a newer schema': [sealed(good.replace(`"schema":${newestSchema}`, '"schema":99')), 'backup_newer', /schema 99/],
      'of another trust domain': [sealed(good.replace('domain":"example.org"', 'domain":"other.org"')), 'trust_domain_differs',
        /the database is of trust domain example.org, the backup is of trust domain other.org/],
      'fewer rows than it says': [sealed(good.replace('"entries":1102', '"entries":1103')), 'backup_malformed', /has 1102 rows where/],
      'a row twice': [sealed(good.replace('"entries":1102', '"entries":1103')
        .replace(/^(\[\d+,"plain",.*\n)/m, '$1$1')), 'backup_malformed', /contradict each other/],
      'a table missing': [
        sealed(good.replace(/,"leases":1/, '').replace(/^\{"table":"leases"[^]*$/m, '{}\n')), 'backup_malformed', /tables/
      ],
      'an unknown column': [sealed(good.replace('"columns":["id","wrapped"]', '"columns":["id","admin"]')), 'backup_malformed', /columns/],
      'a number as text': [sealed(good.replace(/^(\[)(\d+)(,"plain",)/m, '$1"$2"$3')), 'backup_malformed', /entries\.row_id is no int/],
      'text where JSON is': [sealed(good.replace('[[\\"unix\\",\\"uid:17\\"]]', '[[')), 'backup_malformed', /selectors is no json/]
    }
    for (const [what, [text, code, message]] of Object.entries(refused)) {
      const bad = newFile(t)
      writeFileSync(bad, text)
      t.notOk(readFileSync(bad).equals(readFileSync(file)), what)
      await t.rejects(restore(bad, url, { force: true }), { code, message }, what)
    }
    await t.rejects(restore(newFile(t), url, { force: true }), { code: 'file_unusable' }, 'no such file')
    await t.rejects(restore(file, url, { force: true, trustDomain: 'other.org' }), {
      code: 'trust_domain_differs', message: /the configuration is of trust domain other.org/
    })
    await t.rejects(restore(file, url), { code: 'datastore_not_empty', message: /1 entry created since: lost/ })
    const stop = AbortSignal.abort(new Error('stopped'))
    await t.rejects(restore(file, url, { force: true, signal: stop }), { message: 'stopped' })
    const midway = new AbortController()
    const onRows = (what: string, done: number) => { if (what === 'restored' && done > 1_000) midway.abort(new Error('in the middle')) }
    await t.rejects(restore(file, url, { force: true, signal: midway.signal, onRows }), { message: 'in the middle' })
    t.strictSame(await dump(database, url, everything), before)

    const fresh = await database.fresh(t)
    await t.rejects(restore(file, fresh, { trustDomain: 'other.org' }), { code: 'trust_domain_differs' })
    t.notOk(database.kind === 'sqlite' && existsSync(fresh), 'not even an empty file is made')
  })

  await t.test(`${database.kind}: backups that are refused`, async t => {
    const [url, file] = [await database.fresh(t), newFile(t)]
    await t.rejects(backUp(url, file), database.kind === 'sqlite'
      ? { code: 'file_unusable', message: /there is no database/ }
      : { code: 'datastore_older', message: /holds nothing of Assay yet/ })
    t.notOk(database.kind === 'sqlite' && existsSync(url), 'a wrong path makes no database')
    await withStore(url, fill)
    await t.rejects(backUp(url, file, { trustDomain: 'other.org' }), { code: 'trust_domain_differs' })
    await t.rejects(backUp(url, `${file}/below`), { code: 'file_unusable', message: /cannot write/ })
    t.notOk(existsSync(file), 'what was refused left no file')
    writeFileSync(file, 'mine')
    await t.rejects(backUp(url, file), { code: 'file_unusable', message: /exists already/ })
    t.equal(readFileSync(file, 'utf8'), 'mine')
    await database.execute(url, 'insert into schema_migrations (number, name) values (9999, \'from-the-future\')')
    await t.rejects(backUp(url, newFile(t)), { code: 'datastore_newer', message: /9999/ })
    await database.execute(url, 'delete from schema_migrations where number > 1')
    await t.rejects(backUp(url, newFile(t)), { code: 'datastore_older', message: /has schema 1, this version reads schema \d/ })
  })

  await t.test(`${database.kind}: not while a server runs`, async t => {
    const [url, other, file] = [await database.fresh(t), await database.fresh(t), newFile(t)]
    await withStore(url, fill)
    await backUp(url, file)
    const store = await openDatastore(url, { clock: systemClock, log: silentLogger })
    await store.replicas.report({
      id: 'r', name: 'host-1', version: '1', startedAt: new Date(), cursor: await store.log.head(), facts: {}
    })
    const before = await dump(database, url, everything)
    const message = database.kind === 'sqlite' ? /in use by a server/ : /in use by a server on host-1; one that was killed counts for 15 s/
    await t.rejects(restore(file, url, { force: true }), { code: 'datastore_in_use', message })
    await t.rejects(move(url, other), { code: 'datastore_in_use', message }, 'what is written after the copy would be lost')
    t.strictSame(await dump(database, url, everything), before)
    const again = newFile(t)
    await backUp(url, again)
    t.ok(existsSync(again), 'a backup is taken all the same')
    await store.replicas.remove('r')
    await store[Symbol.asyncDispose]()
    await restore(file, url, { force: true })
  })
}

/** The text with the checksum that belongs to it: as a forger, or a careless editor with tools, would leave it. */
function sealed (text: string): string {
  const body = text.replace(/[^\n]*\n$/, '')
  return `${body}{"sha256":"${createHash('sha256').update(body).digest('hex')}"}\n`
}
