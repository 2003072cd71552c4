import { spawn } from 'node:child_process'
import { chmodSync, chownSync, existsSync, globSync, mkdirSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import pg from 'pg'
import { ManagedProcess } from '../../src/cli/demo/managed-process.ts'
import { until } from '../../src/cli/demo/until.ts'
import type { Workspace } from '../../src/cli/demo/workspace.ts'

/** `nobody`: PostgreSQL refuses to run as root. */
const unprivileged = 65534
const startTimeoutMs = 30_000

/** Where the programs of the newest PostgreSQL lie. Throws an error that says what to do when there are none. */
export async function findPostgres (path: string | undefined): Promise<string> {
  const versionOf = (folder: string) => Number(/\/([\d.]+)\/bin$/.exec(folder)?.[1] ?? 0)
  const installed = globSync('/usr/lib/postgresql/*/bin').toSorted((a, b) => versionOf(b) - versionOf(a))
  const programs = ['initdb', 'postgres', 'pg_basebackup']
  const found = [...installed, ...(path ?? '').split(delimiter)].find(folder => programs.every(name => existsSync(join(folder, name))))
  if (found !== undefined) return found
  throw new Error(`${programs.join(', ')} are neither on PATH nor in /usr/lib/postgresql/*/bin: apt install postgresql`)
}

export interface PostgresPairOptions {
  /** Folder of the programs. */
  readonly programs: string
  readonly workspace: Workspace
  readonly signal: AbortSignal
}

/** A primary and a streaming replica of it, on Unix sockets in the workspace. */
export class PostgresPair implements AsyncDisposable {
  readonly #options: PostgresPairOptions
  readonly #scope = new AsyncDisposableStack()
  readonly #processes: ManagedProcess[] = []

  private constructor (options: PostgresPairOptions) { this.#options = options }

  /** On return the replica streams. */
  static async start (options: PostgresPairOptions): Promise<PostgresPair> {
    const pair = new PostgresPair(options)
    try {
      await pair.#start()
    } catch (error) {
      await pair[Symbol.asyncDispose]()
      throw error
    }
    return pair
  }

  get primaryUrl (): string { return this.#urlOf('primary') }
  get processes (): readonly ManagedProcess[] { return this.#processes }

  /** Entries that have reached the replica. */
  async replicated (): Promise<number> {
    const [row] = await query(this.#urlOf('standby'), 'select count(*)::int as count from entries')
    return Number(row?.['count'])
  }

  async #start (): Promise<void> {
    const { workspace, signal } = this.#options
    // Another user must reach what is its own in there; nobody can list it.
    chmodSync(workspace.folder, 0o711)
    for (const name of ['pg', 'pg/primary', 'pg/standby']) this.#ownFolder(name)
    await this.#run('initdb', '-D', this.#dataOf('primary'), '-U', 'assay', '-A', 'trust', '-E', 'UTF8', '--locale=C', '--no-sync')
    await this.#serve('primary')
    await this.#run('pg_basebackup', '-D', this.#dataOf('standby'), '-h', this.#folderOf('primary'), '-U', 'assay', '-R', '-c', 'fast')
    await this.#serve('standby')
    await until('the replica to stream', async () => {
      const [row] = await query(this.primaryUrl, 'select state from pg_stat_replication')
      return row?.['state'] === 'streaming' ? true : undefined
    }, startTimeoutMs, signal)
  }

  async #serve (name: string): Promise<void> {
    const { programs, workspace, signal } = this.#options
    const process = this.#scope.use(new ManagedProcess({
      name: `PostgreSQL ${name}`,
      command: asUnprivileged(join(programs, 'postgres'), '-D', this.#dataOf(name), '-k', this.#folderOf(name), '-c', 'listen_addresses='),
      logFile: join(workspace.logs, `postgres-${name}.log`)
    }))
    this.#processes.push(process)
    const answers = () => query(this.#urlOf(name), 'select 1').then(() => true as const, () => undefined)
    await Promise.race([until(`the PostgreSQL ${name}`, answers, startTimeoutMs, signal), process.ended()])
  }

  #run (program: string, ...words: string[]): Promise<void> {
    const [command = '', ...rest] = asUnprivileged(join(this.#options.programs, program), ...words)
    return new Promise((resolve, reject) => {
      // The folder of the caller may be closed to the unprivileged user.
      const child = spawn(command, rest, { stdio: ['ignore', 'ignore', 'pipe'], cwd: '/' })
      let output = ''
      child.stderr.on('data', (chunk: Buffer) => { output += chunk.toString() })
      child.once('error', reject)
      child.once('close', code => code === 0 ? resolve() : reject(new Error(`${program} ended with ${code}: ${output.trim()}`)))
    })
  }

  #ownFolder (name: string): void {
    const folder = join(this.#options.workspace.folder, name)
    mkdirSync(folder, { mode: 0o700 })
    if (process.getuid?.() === 0) chownSync(folder, unprivileged, unprivileged)
  }

  #folderOf (name: string): string { return join(this.#options.workspace.folder, 'pg', name) }
  #dataOf (name: string): string { return join(this.#folderOf(name), 'data') }
  #urlOf (name: string): string { return `postgres:///postgres?host=${encodeURIComponent(this.#folderOf(name))}&user=assay` }

  [Symbol.asyncDispose] (): Promise<void> { return this.#scope.disposeAsync() }
}

/** The kernel forgets who dies with whom when the user changes: it is said again. */
function asUnprivileged (...command: string[]): string[] {
  if (process.getuid?.() !== 0) return command
  return ['setpriv', `--reuid=${unprivileged}`, `--regid=${unprivileged}`, '--clear-groups', '--pdeathsig', 'KILL', '--', ...command]
}

async function query (url: string, text: string): Promise<Array<Record<string, unknown>>> {
  const client = new pg.Client({ connectionString: url })
  // A database that ends takes its connections along; the query fails, which is enough.
  client.on('error', () => {})
  await client.connect()
  try {
    return (await client.query<Record<string, unknown>>(text)).rows
  } finally {
    await client.end()
  }
}
