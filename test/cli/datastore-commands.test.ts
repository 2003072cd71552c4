import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { systemClock } from '../../src/runtime/clock.ts'
import { silentLogger } from '../../src/runtime/logger.ts'
import type { Datastore } from '../../src/storage/datastore.ts'
import { openDatastore } from '../../src/storage/open-datastore.ts'
import { agent, bundle, draft, id } from '../storage/fixture.ts'
import { runAssay } from '../fakes/run-assay.ts'
import { runCli } from '../../src/cli/run-cli.ts'
import { commandTree } from '../../src/cli/command-tree.ts'
import { createTestTerminal } from '../fakes/terminal.ts'
import { executeSql, postgresMissing, startPostgres } from '../fakes/postgres.ts'

/** A folder with a configuration and a database that a server has used. */
async function prepare (t: Test): Promise<{ folder: string, config: string, file: (name: string) => string }> {
  const folder = mkdtempSync(join(tmpdir(), 'assay-datastore-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  const file = (name: string) => join(folder, name)
  writeFileSync(file('server.yaml'), `server:\n  trust_domain: example.org\n  data_dir: ${folder}\n`)
  await withStore(file('datastore.sqlite3'), async store => {
    await store.bundles.set(bundle('partner.test'))
    await store.entries.createMany([draft('one', { id: 'one' }), draft('two', { id: 'two' })])
    await store.agents.attest(agent('node'))
  })
  return { folder, config: file('server.yaml'), file }
}

async function withStore<T> (url: string, work: (store: Datastore) => Promise<T>): Promise<T> {
  await using store = await openDatastore(url, { clock: systemClock, log: silentLogger })
  return await work(store)
}

await t.test('backup, inspect, restore', async t => {
  const { config, file } = await prepare(t)
  const run = (...words: string[]) => runAssay(['datastore', ...words])
  t.match(await run('backup', '-config', config, file('b')), {
    code: 0,
    stdout: /a SQLite database\n.*example\.org\nHolds +: 2 entries, 1 agent, 1 bundle, [^]*Keys +: .*not in it: save .*keys\.json/
  })
  t.equal(statSync(file('b')).mode & 0o777, 0o600)
  t.match(await run('inspect', file('b')), { code: 0, stdout: /2 entries[^]*Checksum +: intact/ })
  const inspected = JSON.parse((await run('inspect', '--output', 'json', file('b'))).stdout) as object
  const bytes = statSync(file('b')).size
  t.match(inspected, { intact: true, counts: { entries: 2, agents: 1 }, trust_domain: 'example.org', database: 'sqlite', bytes })

  await withStore(file('datastore.sqlite3'), async store => {
    await store.entries.deleteMany(['one'])
    await store.agents.ban(id('/spire/agent/join_token/node'))
  })
  const told = /stay as they are now; [^]*1 agent banned since: banned as now\n.*\n +1 entry deleted since: back again\n.*\/one \(one\)/
  t.match(await run('restore', '-config', config, file('b')), {
    code: 1, stdout: told, stderr: /is not empty; after the restore: 1 entry deleted since: back again[^]*datastore_not_empty[^]*-force/
  })
  t.equal(await withStore(file('datastore.sqlite3'), store => store.entries.count({})), 1, 'told only')
  t.match(await run('restore', '-config', config, '-force', file('b')), {
    code: 0, stdout: /1 entry deleted since[^]*Restored\. The log begins epoch .*\+[^]*: leave the private keys as they are/
  })
  await withStore(file('datastore.sqlite3'), async store => {
    t.equal(await store.entries.count({}), 2)
    t.equal(await store.agents.count({ banned: true }), 1)
  })

  const json = await run('restore', '-config', config, '-force', '-discardRevocations', '-output', 'json', file('b'))
  const [report, restored] = json.stdout.trim().split('\n').map(line => JSON.parse(line) as object)
  const unbanned = { kind: 'agent_banned', outcome: 'goes_back', total: 1 }
  t.match(report, { report: { identities: 'discarded', compared: true, findings: [unbanned] } })
  t.match(restored, { restored: { epoch: String, keys: /put the keys\.json that was saved with this backup in place as .*keys\.json/ } })

  t.match(await run('restore', '-datastore', file('new/other.db'), file('b')), {
    code: 0, stdout: /Nothing could be compared: the database is empty[^]*banned or evicted since[^]*agents? ban[^]*Restored/
  })
  t.equal(await withStore(file('new/other.db'), store => store.agents.count({ banned: false })), 1)
})

await t.test('what is refused, with the way out', async t => {
  const { config, file } = await prepare(t)
  const run = (...words: string[]) => runAssay(['datastore', ...words])
  await run('backup', '-config', config, file('b'))
  t.match(await run('backup', '-config', config, file('b')), { code: 2, stderr: /exists already[^]*file_unusable/ })
  t.match(await run('backup', '-config', config, '-datastore', 'x', file('c')), { code: 2, stderr: /-datastore stands in place of/ })
  t.match(await run('backup', '-datastore', 'mysql://u:s3cret@h/d', file('c')), { code: 2, stderr: /^(?!.*s3cret)[^]*config_invalid/ })
  t.match(await run('backup', '-trustDomain', 'other.org', '-datastore', file('datastore.sqlite3'), file('c')), {
    code: 1, stderr: /configuration is of trust domain other\.org, the database is of trust domain example\.org[^]*trust_domain_differs/
  })
  t.match(await run('migrate', '-config', config), { code: 2, stderr: /-to is required/ })
  writeFileSync(file('cut'), readFileSync(file('b')).subarray(0, 900))
  for (const command of [['inspect'], ['restore', '-force', '-config', config]]) {
    t.match(await run(...command, file('cut')), { code: 2, stderr: /damaged or cut off[^]*backup_malformed/ })
  }
  await withStore(file('datastore.sqlite3'), async () => {
    t.match(await run('restore', '-force', '-config', config, file('b')), { code: 1, stderr: /is in use by a server[^]*stop every server/ })
    t.match(await run('migrate', '-config', config, '-to', file('m.db')), { code: 1, stderr: /datastore_in_use/ })
    t.match(await run('backup', '-config', config, file('d')), { code: 0 }, 'a backup is taken while a server runs')
    t.match(await runAssay(['server', 'run', '-config', config]), {
      code: 1, stderr: /in use by another server[^]*assay datastore migrate --to postgres[^]*datastore_locked/
    }, 'a second server is told how to become one of several')
  })
  t.match(await run('migrate', '-config', config, '-to', file('datastore.sqlite3')), { code: 1, stderr: /datastore_in_use/ }, 'into itself')
  t.notOk(existsSync(file('c')) || existsSync(file('m.db')))
})

await t.test('private keys: what is said of them', async t => {
  const { folder, file } = await prepare(t)
  const wordsOf = async (keyManager: string) => {
    const server = `server: { trust_domain: example.org, data_dir: ${folder} }\n`
    writeFileSync(file('server.yaml'), `${server}plugins: { KeyManager: { ${keyManager} } }\n`)
    const backup = file(`backup-${keyManager.length}`)
    return (await runAssay(['datastore', 'backup', '-config', file('server.yaml'), backup])).stdout
  }
  t.match(await wordsOf('disk: { plugin_data: { keys_path: /keys/here.json } }'), /save \/keys\/here\.json beside it now/)
  t.match(await wordsOf('memory: {}'), /private keys are in memory/)
  t.match(await wordsOf(`database: { plugin_data: { key_encryption_key_file: ${file('kek')} } }`), /keep the key-encryption key elsewhere/)
  await withStore(file('datastore.sqlite3'), store => store.keys.put('k', new Uint8Array(9)))
  const unknown = await runAssay(['datastore', 'backup', '-datastore', file('datastore.sqlite3'), file('wrapped')])
  t.match(unknown.stdout, /they are lost/)
  t.match(await runAssay(['datastore', 'restore', '-datastore', file('x.db'), file('wrapped')]), {
    code: 0, stdout: /needs the key-encryption key that was in use when the backup was taken/
  })
})

await t.test('progress, and Ctrl-C', async t => {
  const { config, file } = await prepare(t)
  const watched = { ...createTestTerminal(), interactive: true, err: (text: string) => { shown += text } }
  let shown = ''
  await withStore(file('datastore.sqlite3'), store => store.entries.createMany(Array.from({ length: 2_500 }, (_, n) => draft(`w${n}`))))
  t.equal(await runCli(commandTree, ['datastore', 'backup', '-config', config, file('b')], watched), 0)
  t.match(shown, /\d+ of 5006 rows saved/)
  t.ok(shown.endsWith('\r\u001B[K'), 'and nothing of it stays')
  const stopped = createTestTerminal()
  stopped.stop()
  t.equal(await runCli(commandTree, ['datastore', 'restore', '-config', config, '-force', file('b')], stopped), 130)
  t.equal(await runCli(commandTree, ['datastore', 'backup', '-config', config, file('c')], stopped), 130)
  t.notOk(existsSync(file('c')))
})

const skip = postgresMissing()
await t.test('from SQLite to PostgreSQL and back', { skip }, async t => {
  await using postgres = await startPostgres()
  const { config, file } = await prepare(t)
  const url = await postgres.createSchema()
  const moved = await runAssay(['datastore', 'migrate', '-config', config, '--to', url])
  t.match(moved, {
    code: 0, stdout: /To +: PostgreSQL database postgres at [^]* rows copied and compared: [^]*next: leave .*keys\.json and the data folder/
  })
  t.same(await executeSql(url, 'select count(*)::int as entries from entries'), [{ entries: 2 }])
  const back = await runAssay(['datastore', 'migrate', '-datastore', url, '-to', file('back.db'), '-output', 'json'])
  t.match(JSON.parse(back.stdout), { counts: { entries: 2, agents: 1 }, next: { length: 3 } })
  t.match(await runAssay(['datastore', 'migrate', '-datastore', file('back.db'), '-to', url]), {
    code: 1, stderr: /is not empty; a database moves into an empty one only[^]*take an empty one/
  })
})
