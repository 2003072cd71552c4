import { spawn } from 'node:child_process'
import { chownSync, existsSync, globSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import pg from 'pg'

/** `nobody`: PostgreSQL refuses to run as root. */
const unprivileged = 65534

export interface Postgres extends AsyncDisposable {
  /** Of the database `postgres`. */
  readonly url: string
  /** Makes an empty schema, as good as a database of its own and 300 ms faster. @returns a URL that leads to nothing else */
  createSchema (): Promise<string>
  /** As a power cut would: `pg_ctl stop -m immediate`. */
  stop (): Promise<void>
  start (): Promise<void>
}

/** Why tests that need PostgreSQL cannot run here, or `false`; fits tap's `skip`. */
export function postgresMissing (): string | false {
  return findPrograms() === undefined && 'initdb and pg_ctl are neither on PATH nor in /usr/lib/postgresql/*/bin: apt install postgresql'
}

/** A real cluster of its own on a Unix socket in a temporary folder, fsync on; gone with its data when disposed. */
export async function startPostgres (): Promise<Postgres> {
  const programs = findPrograms()
  if (programs === undefined) throw new Error(String(postgresMissing()))
  const folder = mkdtempSync(join(tmpdir(), 'assay-pg-'))
  const data = join(folder, 'data')
  mkdirSync(data, { mode: 0o700 })
  if (process.getuid?.() === 0) for (const path of [folder, data]) chownSync(path, unprivileged, unprivileged)
  const log = join(folder, 'log')
  const pgCtl = (...args: string[]) => run(join(programs, 'pg_ctl'), [...args, '-D', data, '-w', '-s'], log)
  // After a power cut each file would be synchronised by itself: half a minute with the tables of fifty schemas.
  const sync = versionOf(programs) >= 14 ? '-c recovery_init_sync_method=syncfs' : ''
  const start = () => pgCtl('start', '-l', log, '-o', `-c listen_addresses='' -c fsync=on ${sync} -k ${folder}`)
  const stop = () => pgCtl('stop', '-m', 'immediate')
  const urlOf = (database: string) => `postgres:///${database}?host=${encodeURIComponent(folder)}&user=assay`
  let schemas = 0
  const dispose = async () => {
    if (existsSync(join(data, 'postmaster.pid'))) await stop()
    rmSync(folder, { recursive: true, force: true })
  }
  try {
    await run(join(programs, 'initdb'), ['-D', data, '-U', 'assay', '-A', 'trust', '-E', 'UTF8', '--locale=C', '--no-sync'], log)
    await start()
  } catch (error) {
    await dispose()
    throw error
  }
  return {
    url: urlOf('postgres'),
    start,
    stop,
    createSchema: async () => {
      const schema = `test_${++schemas}`
      await executeSql(urlOf('postgres'), `create schema ${schema}`)
      return `${urlOf('postgres')}&options=${encodeURIComponent(`-c search_path=${schema}`)}`
    },
    [Symbol.asyncDispose]: dispose
  }
}

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
function findPrograms (): string | undefined {
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
