import { join } from 'node:path'
import type { TLSSocket } from 'node:tls'
import pg from 'pg'
import t from 'tap'
import { encodePem } from '../../src/x509/pem.ts'
import { eventually } from '../fakes/eventually.ts'
import { postgresMissing, postgresPrograms, startPostgres } from '../fakes/postgres.ts'
import { FakeAgent } from './fake-agent.ts'
import { sameSerial, serialOf } from '../fakes/serial.ts'
import { FilesFolder } from './files-process.ts'
import { Knocking } from './knocking.ts'

const missing = postgresMissing()
/** Whom `startPostgres` runs it as. */
const owner = process.getuid?.() === 0 ? { file_owner: 65_534, file_group: 65_534 } : {}

void t.test('PostgreSQL serves each new SVID, and no connection fails meanwhile', { skip: missing }, async t => {
  await using agent = await FakeAgent.start()
  const first = await agent.rotate()
  const files = new FilesFolder(t, agent)
  await files.fetch(owner)
  const root = encodePem('CERTIFICATE', agent.domain.root)
  const unused = await agent.domain.issue('/unused')
  await using postgres = await startPostgres({
    tls: {
      cert: encodePem('CERTIFICATE', unused.chain[0] as Uint8Array), key: encodePem('PRIVATE KEY', unused.privateKey), clientCa: root
    },
    settings: { fsync: 'off', ssl_cert_file: files.svid, ssl_key_file: files.key, ssl_ca_file: files.bundle }
  })
  const { port } = postgres
  const knock = async () => {
    const client = new pg.Client({
      host: '127.0.0.1', port, user: 'assay', database: 'postgres', ssl: { ca: root, checkServerIdentity: () => undefined }
    })
    client.on('error', () => {})
    await client.connect()
    try {
      await client.query('select 1')
      const { connection } = client as unknown as { connection: { stream: TLSSocket } }
      return connection.stream.getPeerCertificate().serialNumber
    } finally {
      await client.end()
    }
  }
  const serves = { address: `127.0.0.1:${port}`, protocol: 'postgres' }
  const programs = postgresPrograms() as string
  const ways: Readonly<Record<string, object>> = {
    'SIGHUP by postmaster.pid': {
      pid_file_name: join(postgres.folder, 'data/postmaster.pid'), pid_program: join(programs, 'postgres'), renew_signal: 'SIGHUP'
    },
    'pg_reload_conf by psql': { reload: { command: [join(programs, 'psql'), postgres.url, '-qAt', '-c', 'select pg_reload_conf()'] } }
  }
  t.ok(sameSerial(await knock(), serialOf(first)), 'it starts with links for files')
  const knocking = new Knocking(2, knock)
  for (const [way, keys] of Object.entries(ways)) {
    const running = files.start(t, { ...owner, ...keys, serves: { ...serves, within: '60s' } })
    for (let rotation = 0; rotation < 2; rotation++) {
      const svid = await agent.rotate()
      await running.said('the program serves the new certificate', serialOf(svid))
      t.ok(sameSerial(await knock(), serialOf(svid)), `${way}: a client is shown the new one`)
    }
    t.equal(await running.stop(), 0)
  }
  await knocking.end()
  t.same(knocking.failures, [], `no connection of ${knocking.served} failed`)

  const shown = await knock()
  const running = files.start(t, { ...owner, reload: { command: ['true'] }, serves: { ...serves, within: '300ms' } })
  const unread = await agent.rotate()
  await files.holds(serialOf(unread))
  const reason = `it shows serial ${shown.toLowerCase().replace(/^0+/, '')}`
  await eventually(() => `it is told in ${running.log}`, () => running.lines().some(line =>
    line['code'] === 'svid_not_served' && String(line['reason']).includes(reason)), 120_000)
  t.ok(sameSerial(await knock(), shown), 'a program that does not reload is found out')
  t.equal(await running.stop(), 0)
})
