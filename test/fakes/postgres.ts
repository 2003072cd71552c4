import { spawn } from 'node:child_process'
import { appendFileSync, chownSync, existsSync, globSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import pg from 'pg'
import { usualPoolLimits, type PoolLimits } from '../../src/storage/postgres/postgres-pool.ts'
import { eventually } from './eventually.ts'
import { freePort } from './free-port.ts'

/** `nobody`: PostgreSQL refuses to run as root. */
const unprivileged = 65534

/** Milliseconds: sooner, nobody has waited for a statement to be given up nor, with the limits below, for an attempt to connect. */
export const atOnceMs = 14_000
/** An attempt to connect may take longer than a busy machine stands still. */
export const patientPool: PoolLimits = { ...usualPoolLimits, connectTimeoutMs: 60_000 }

export interface PostgresOptions {
  /** As in postgresql.conf, e.g. `{ fsync: 'off' }`. */
  readonly settings?: Readonly<Record<string, string>>
  /** Listens on 127.0.0.1 as well, with TLS alone: PEM. Who calls as `cert_user` shows a certificate of the `clientCa`. */
  readonly tls?: { readonly cert: string, readonly key: string, readonly clientCa: string }
}

export interface Postgres extends AsyncDisposable {
  /** Of the database `postgres`. */
  readonly url: string
  /** Where its Unix socket is; also a name of the server in PostgreSQL addresses. */
  readonly folder: string
  /** TCP, when TLS was asked for; also in the name of the Unix socket. */
  readonly port: number
  /** Makes an empty schema, as good as a database of its own and 300 ms faster. @returns a URL that leads to nothing else */
  createSchema (): Promise<string>
  /** As a power cut would: `pg_ctl stop -m immediate`. */
  stop (): Promise<void>
  start (): Promise<void>
  /** A copy that streams what this server commits, and is asynchronous unless this server's settings say otherwise. */
  startStandby (name: string): Promise<PostgresStandby>
}

export interface PostgresStandby extends Postgres {
  /** On return it holds all that its primary had committed. */
  catchUp (): Promise<void>
  /** What the primary commits from now on does not arrive any more. */
  cutOff (): Promise<void>
  /** Makes it the primary, on a new timeline. */
  promote (): Promise<void>
}

/** Why tests that need PostgreSQL cannot run here, or `false`; fits tap's `skip`. */
export function postgresMissing (): string | false {
  return postgresPrograms() === undefined && 'initdb and pg_ctl are not on PATH nor in /usr/lib/postgresql/*/bin: apt install postgresql'
}

/** A real cluster of its own on a Unix socket in a temporary folder, fsync on; gone with its data when disposed. */
export async function startPostgres (options: PostgresOptions = {}): Promise<Postgres> {
  return await startCluster(options, async ({ run, data }) => {
    await run('initdb', ['-D', data, '-U', 'assay', '-A', 'trust', '-E', 'UTF8', '--locale=C', '--no-sync'])
    if (options.tls !== undefined) await writeTls(data, options.tls)
  })
}

interface ClusterFiles {
  readonly folder: string
  readonly data: string
  readonly run: (program: string, args: readonly string[]) => Promise<void>
}

type Cluster = Omit<PostgresStandby, 'catchUp'>

async function startCluster (options: PostgresOptions, initialise: (files: ClusterFiles) => Promise<void>): Promise<Cluster> {
  const programs = postgresPrograms()
  if (programs === undefined) throw new Error(String(postgresMissing()))
  const folder = mkdtempSync(join(tmpdir(), 'assay-pg-'))
  const data = join(folder, 'data')
  mkdirSync(data, { mode: 0o700 })
  handOver(folder, data)
  const log = join(folder, 'log')
  const runHere = (program: string, args: readonly string[]) => run(join(programs, program), args, log)
  // A busy machine may take longer than the minute that is waited for otherwise.
  const pgCtl = (...args: string[]) => runHere('pg_ctl', [...args, '-D', data, '-w', '-t', '180', '-s'])
  const port = options.tls === undefined ? 5432 : await freePort()
  // After a power cut each file would be synchronised by itself: half a minute with the tables of fifty schemas.
  const sync = versionOf(programs) >= 14 ? { recovery_init_sync_method: 'syncfs' } : {}
  const addresses = options.tls === undefined ? '' : '127.0.0.1'
  const settings = { listen_addresses: addresses, fsync: 'on', port: String(port), ...sync, ...options.settings }
  const flags = Object.entries(settings).map(([name, value]) => `-c ${name}='${value}'`).join(' ')
  const start = () => pgCtl('start', '-l', log, '-o', `${flags} -k ${folder}`)
  const stop = () => pgCtl('stop', '-m', 'immediate')
  const urlOf = (database: string) => `postgres:///${database}?host=${encodeURIComponent(folder)}&port=${port}&user=assay`
  let schemas = 0
  const dispose = async () => {
    if (existsSync(join(data, 'postmaster.pid'))) await stop()
    rmSync(folder, { recursive: true, force: true })
  }
  try {
    await initialise({ folder, data, run: runHere })
    await start()
  } catch (error) {
    await dispose()
    throw error
  }
  return {
    url: urlOf('postgres'),
    folder,
    port,
    start,
    stop,
    createSchema: async () => {
      const schema = `test_${++schemas}`
      await executeSql(urlOf('postgres'), `create schema ${schema}`)
      return `${urlOf('postgres')}&options=${encodeURIComponent(`-c search_path=${schema}`)}`
    },
    startStandby: async name => {
      const source = ['-h', folder, '-p', String(port), '-U', 'assay']
      const standby = await startCluster({ settings: { cluster_name: name } }, ({ data, run }) =>
        run('pg_basebackup', [...source, '-D', data, '-R', '-X', 'stream', '-c', 'fast']))
      return { ...standby, catchUp: () => catchUp(urlOf('postgres'), standby.url) }
    },
    cutOff: async () => {
      await executeSql(urlOf('postgres'), 'alter system set primary_conninfo = \'\'')
      await executeSql(urlOf('postgres'), 'select pg_reload_conf()')
      await eventually('nothing arrives any more', async () =>
        (await executeSql(urlOf('postgres'), 'select 1 from pg_stat_wal_receiver')).length === 0)
    },
    promote: () => pgCtl('promote'),
    [Symbol.asyncDispose]: dispose
  }
}

async function catchUp (primaryUrl: string, standbyUrl: string): Promise<void> {
  const [{ lsn } = {}] = await executeSql(primaryUrl, 'select pg_current_wal_flush_lsn()::text as lsn')
  await eventually('the standby has caught up', async () =>
    (await executeSql(standbyUrl, `select 1 where pg_last_wal_replay_lsn() >= '${String(lsn)}'`)).length === 1)
}

/** The same address with these servers in it. */
export function across (url: string, ...servers: readonly Postgres[]): string {
  return url.replace(/host=[^&]*/, `host=${servers.map(({ folder }) => encodeURIComponent(folder)).join(',')}`)
    .replace(/port=[^&]*/, `port=${servers.map(({ port }) => port).join(',')}`)
}

/** PostgreSQL does not run as root. */
function handOver (...paths: string[]): void {
  if (process.getuid?.() === 0) for (const path of paths) chownSync(path, unprivileged, unprivileged)
}

async function writeTls (data: string, { cert, key, clientCa }: NonNullable<PostgresOptions['tls']>): Promise<void> {
  const files = { 'server.crt': cert, 'server.key': key, 'client-ca.crt': clientCa, 'pg_hba.conf': hostBasedAccess }
  for (const [name, text] of Object.entries(files)) {
    writeFileSync(join(data, name), text, { mode: 0o600 })
    handOver(join(data, name))
  }
  appendFileSync(join(data, 'postgresql.conf'), 'ssl = on\nssl_ca_file = \'client-ca.crt\'\n')
}

const hostBasedAccess = `local all all trust
hostssl all cert_user 127.0.0.1/32 cert
hostssl all all 127.0.0.1/32 trust
`

/** Runs statements past the code under test. */
export async function executeSql (url: string, text: string): Promise<Array<Record<string, unknown>>> {
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  try {
    return (await client.query<Record<string, unknown>>(text)).rows
  } finally {
    await client.end()
  }
}

/** The folder of the newest installed version, else of what is on PATH. */
export function postgresPrograms (): string | undefined {
  const installed = globSync('/usr/lib/postgresql/*/bin').toSorted((a, b) => versionOf(b) - versionOf(a))
  return [...installed, ...(process.env.PATH ?? '').split(delimiter)]
    .find(folder => existsSync(join(folder, 'initdb')) && existsSync(join(folder, 'pg_ctl')))
}

function versionOf (folder: string): number {
  return Number(/\/([\d.]+)\/bin$/.exec(folder)?.[1] ?? 0)
}

function run (program: string, args: readonly string[], log: string): Promise<void> {
  const [command, ...rest] = process.getuid?.() === 0
    ? ['setpriv', `--reuid=${unprivileged}`, `--regid=${unprivileged}`, '--clear-groups', program, ...args]
    : [program, ...args]
  return new Promise((resolve, reject) => {
    // The folder of the caller may be closed to the unprivileged user.
    const child = spawn(command, rest, { stdio: ['ignore', 'ignore', 'pipe'], cwd: '/' })
    let output = ''
    child.stderr.on('data', (chunk: Buffer) => { output += chunk.toString() })
    child.once('error', reject)
    // Not `close`: the server that pg_ctl leaves behind may hold the pipe.
    child.once('exit', code => {
      child.stderr.destroy()
      if (code === 0) return resolve()
      const logged = existsSync(log) ? readFileSync(log, 'utf8').slice(-2000) : ''
      reject(new Error(`${program} ended with ${code}: ${output}${logged}`))
    })
  })
}
