import { chmod, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { systemClock } from '../../src/runtime/clock.ts'
import { silentLogger } from '../../src/runtime/logger.ts'
import { openDatastore } from '../../src/storage/open-datastore.ts'
import { parsePostgresAddress } from '../../src/storage/postgres/postgres-address.ts'
import { PostgresConnector } from '../../src/storage/postgres/postgres-connector.ts'
import { usualPoolLimits } from '../../src/storage/postgres/postgres-pool.ts'
import { Timelines } from '../../src/storage/postgres/timeline.ts'
import { oid } from '../../src/x509/oid.ts'
import { encodePem } from '../../src/x509/pem.ts'
import { executeSql, postgresMissing, startPostgres } from '../fakes/postgres.ts'
import { startPostgresProxy } from '../fakes/postgres-proxy.ts'
import { altNames, caExtensions, forge, leafExtensions, nameOf, type Forged } from '../x509/forge-certificate.ts'

const skip = postgresMissing()
if (skip !== false) t.comment(`skipped: ${skip}`)
const deps = { clock: systemClock, log: silentLogger }
const hours = { notBefore: new Date(Date.now() - 3_600_000), notAfter: new Date(Date.now() + 3_600_000) }
const authority = forge({ ...hours, subject: 'a CA of databases', extensions: caExtensions() })
const stranger = forge({ ...hours, subject: 'another CA', extensions: caExtensions() })
const leaf = (subject: string, dnsName: string) => forge({
  ...hours, issuer: authority, subject, extensions: { ...leafExtensions(), [oid.subjectAltName]: altNames([nameOf.dns(dnsName)]) }
})
const certificate = ({ der }: Forged) => encodePem('CERTIFICATE', der)
const key = ({ key }: Forged) => String(key.export({ format: 'pem', type: 'pkcs8' }))

/** @returns paths */
async function writeFiles (t: Test): Promise<Record<'root' | 'other' | 'cert' | 'key' | 'text', string>> {
  const folder = t.testdir()
  const client = leaf('cert_user', 'client.test')
  const texts = { root: certificate(authority), other: certificate(stranger), cert: certificate(client), key: key(client), text: 'no PEM' }
  const paths = { root: '', other: '', cert: '', key: '', text: '' }
  for (const name of Object.keys(texts) as Array<keyof typeof texts>) {
    paths[name] = join(folder, `${name}.pem`)
    await writeFile(paths[name], texts[name], { mode: 0o600 })
  }
  return paths
}

/** Whether the connection is encrypted, and for whom. */
async function connect (url: string): Promise<unknown> {
  const connector = new PostgresConnector(parsePostgresAddress(url), usualPoolLimits, { ...deps, timelines: new Timelines() })
  const client = await connector.connect('test')
  try {
    const { rows } = await client.query('select ssl, current_user::text as role from pg_stat_ssl where pid = pg_backend_pid()')
    return rows[0]
  } finally {
    await client.end()
  }
}

await t.test('sslmode against a server with TLS', { skip }, async t => {
  const server = leaf('database', 'localhost')
  await using postgres = await startPostgres({ tls: { cert: certificate(server), key: key(server), clientCa: certificate(authority) } })
  const { root, other, cert, key: keyFile, text } = await writeFiles(t)
  const url = (host: string, parameters: string, user = 'assay') => `postgres://${user}@${host}:${postgres.port}/postgres?${parameters}`
  const encrypted = { ssl: true, role: 'assay' }

  t.strictSame(await connect(url('localhost', `sslmode=verify-full&sslrootcert=${root}`)), encrypted, 'verify-full')
  t.strictSame(await connect(url('127.0.0.1', `sslmode=verify-ca&sslrootcert=${root}`)), encrypted, 'verify-ca, by any name')
  t.strictSame(await connect(url('127.0.0.1', 'sslmode=require')), encrypted, 'require: whoever it is')
  const refused: Record<string, [string, RegExp]> = {
    'verify-full: another name': [url('127.0.0.1', `sslmode=verify-full&sslrootcert=${root}`), /does not match certificate's altnames/],
    'verify-full: another issuer': [url('localhost', `sslmode=verify-full&sslrootcert=${other}`), /unable to (verify|get)|self.signed/],
    'verify-ca: another issuer': [url('localhost', `sslmode=verify-ca&sslrootcert=${other}`), /unable to (verify|get)|self.signed/],
    'require with a root: another issuer': [url('localhost', `sslmode=require&sslrootcert=${other}`), /unable to (verify|get)|self.signed/],
    'the machine\'s authorities': [url('localhost', 'sslrootcert=system'), /unable to (verify|get)|self.signed/],
    'disable, where the server insists': [url('127.0.0.1', 'sslmode=disable'), /no encryption/]
  }
  for (const [rule, [url, message]] of Object.entries(refused)) {
    await t.rejects(connect(url), { code: 'datastore_unavailable', message }, rule)
  }
  const list = `postgres://assay@db.invalid,127.0.0.1,localhost/postgres?port=${postgres.port}&sslmode=verify-full&sslrootcert=${root}`
  t.strictSame(await connect(list), encrypted, 'of several hosts the first that is what it should be')

  await t.test('certificates of clients', async t => {
    const as = (parameters: string) => url('localhost', `sslmode=verify-full&sslrootcert=${root}&${parameters}`, 'cert_user')
    await executeSql(postgres.url, 'create role cert_user login')
    await t.rejects(connect(as('application_name=a')), { code: 'datastore_unavailable', message: /requires a valid client certificate/ })
    t.strictSame(await connect(as(`sslcert=${cert}&sslkey=${keyFile}`)), { ssl: true, role: 'cert_user' })
  })

  await t.test('files that cannot be used are named', async t => {
    const open = (parameters: string) => openDatastore(url('localhost', parameters), deps)
    const code = 'file_unusable'
    await t.rejects(open('sslmode=verify-full&sslrootcert=/nowhere/ca.pem'), { code, message: /sslrootcert \/nowhere\/ca.pem .*ENOENT/ })
    await t.rejects(open(`sslmode=verify-full&sslrootcert=${text}`), { code, message: /holds no PEM/ })
    await chmod(keyFile, 0o640)
    const shared = open(`sslmode=require&sslcert=${cert}&sslkey=${keyFile}`)
    if (process.getuid?.() !== 0) await t.rejects(shared, { code, message: /others may read it/ })
    else await (await shared)[Symbol.asyncDispose]()
    await chmod(keyFile, 0o644)
    await t.rejects(open(`sslmode=require&sslcert=${cert}&sslkey=${keyFile}`), { code, message: /sslkey .*others may read it/ })
  })

  await t.test('warnings: a way that is not encrypted', async t => {
    await using encrypted = await openDatastore(url('localhost', `sslmode=verify-full&sslrootcert=${root}`), deps)
    t.notMatch((await encrypted.warnings()).join('\n'), /not encrypted/)
  })
})

await t.test('sslmode against a server without TLS', { skip }, async t => {
  await using postgres = await startPostgres()
  await using proxy = await startPostgresProxy(postgres)
  const { root } = await writeFiles(t)
  const tls = `&sslmode=verify-full&sslrootcert=${root}`
  for (const parameters of ['&sslmode=require', tls]) {
    await t.rejects(connect(`${proxy.through(postgres.url)}${parameters}`), {
      code: 'datastore_unavailable', message: /does not support SSL/
    }, 'is not fallen back to')
  }
  t.strictSame(await connect(`${postgres.url}${tls}`), { ssl: false, role: 'assay' }, 'a Unix socket needs none')
  t.strictSame(await connect(proxy.through(postgres.url)), { ssl: false, role: 'assay' })
})
