import { spawnSync } from 'node:child_process'
import { delimiter } from 'node:path'
import t from 'tap'
import { freePort } from './fakes/free-port.ts'
import { postgresMissing, postgresPrograms, startPostgres } from './fakes/postgres.ts'
import { readBlocks, runBash, scriptOf } from './fakes/run-guide.ts'

const path = [postgresPrograms() ?? '', process.env['PATH'] ?? ''].join(delimiter)
const missing = ['bash', 'openssl', 'psql', 'pg_dump', 'pg_restore']
  .filter(program => spawnSync('sh', ['-c', `command -v ${program}`], { env: { ...process.env, PATH: path } }).status !== 0)
const skip = postgresMissing() || (missing.length > 0 && `not here: ${missing.join(', ')}`)

await t.test('docs/disaster-recovery.md does what it says', { skip, timeout: 240_000 }, async t => {
  await using postgres = await startPostgres()
  const blocks = await readBlocks('docs/disaster-recovery.md')
  const script = scriptOf(blocks).replaceAll(/\b8081\b/g, String(await freePort()))
  const { code, output } = await runBash(script, { PG: postgres.url, PATH: path })
  t.equal(code, 0, output)
  const [, saved = '', deleted = '', restored = '', gone = '', moved = '', shared = '', dumped = '', keyLost = ''] =
    output.split('== block done')
  t.equal(output.split('== block done').length, blocks.length)
  t.match(saved, /Holds +: 2 entries, 1 agent[^]*Keys +: .*keys\.json beside it[^]*Checksum +: intact/)
  t.match(deleted, /1 entry deleted since: back again\n.*\/me \(me\)\n.*1 entry created since: lost\n.*\/later[^]*told, and nothing/)
  t.match(deleted, /datastore_not_empty/)
  t.match(restored, /stay as they are now[^]*Restored\. [^]*leave the private keys as they are[^]*spiffe:\/\/example\.org\/me/)
  t.match(gone, /Nothing could be compared[^]*Restored[^]*1 of 1 live agents? ha/, 'the agent is one still')
  t.match(moved, /rows copied and compared[^]*set the key manager to "database"[^]*1 of 1 live agents? ha/, 'it knows the root it meets')
  t.match(shared, /of a PostgreSQL database[^]*, 2 wrapped keys/)
  t.match(shared, /in use by a server on [^]*refused: a server runs[^]*Restored[^]*spiffe:\/\/example\.org\/moved/)
  t.match(dumped, /begins epoch [^]*1 of 1 live agents? ha/)
  t.match(keyLost, /key_encryption_key_invalid[^]*refused: another key[^]*DELETE \d/)
  t.match(output, /^left: $/m, 'nothing is left')
})
