import { spawn, spawnSync, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, type AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { openUnixChannel } from '../../src/rpc/channel.ts'
import { bundleService } from '../../src/wire/generated/server-bundle.ts'
import type { BedServer } from './test-bed.ts'

/** Names SPIRE's server program; without it only Assay is measured. */
const variable = 'SPIRE_SERVER_BIN'
const startTimeoutMs = 60_000

/** What to do to have SPIRE measured too. */
export const withoutSpire =
  `SPIRE was not measured: let ${variable} name the program spire-server, from a release of SPIRE or built of its cmd/spire-server.`

export interface SpireProgram {
  readonly file: string
  /** As it calls itself. */
  readonly version: string
}

/** `undefined` when none is named. Throws when what is named is none. */
export function findSpireServer (): SpireProgram | undefined {
  const file = process.env[variable]
  if (file === undefined || file === '') return undefined
  const { status, stdout, stderr, error } = spawnSync(file, ['--version'], { encoding: 'utf8' })
  const version = `${stdout}${stderr}`.trim()
  if (status !== 0 || version === '') throw new Error(`${variable}: ${file} does not tell its version: ${error?.message ?? version}`)
  return { file, version }
}

/** SPIRE's names for where it stores; the rest of its configuration is its default, rate limits apart, which are off. */
export type SpireDatastore =
  | { readonly database_type: 'sqlite3' }
  | { readonly database_type: 'postgres', readonly connection_string: string }

/** In a process of its own, with a self-signed authority and keys on the disk; returns once its API answers. */
export async function startSpireServer ({ file }: SpireProgram, datastore: SpireDatastore): Promise<BedServer> {
  const folder = mkdtempSync(join(tmpdir(), 'bench-spire-'))
  const [socket, port] = [join(folder, 'api.sock'), await freePort()]
  const plugin = (name: string, data: object) => ({ [name]: { plugin_data: data } })
  writeFileSync(join(folder, 'server.json'), JSON.stringify({
    server: {
      trust_domain: 'example.org', bind_address: '127.0.0.1', bind_port: port, socket_path: socket, data_dir: folder,
      ratelimit: { attestation: false, signing: false }
    },
    plugins: {
      DataStore: plugin('sql', { connection_string: join(folder, 'datastore.sqlite3'), ...datastore }),
      KeyManager: plugin('disk', { keys_path: join(folder, 'keys.json') }),
      NodeAttestor: plugin('join_token', {})
    }
  }))
  const child = spawn(file, ['run', '-config', join(folder, 'server.json')], { stdio: ['ignore', 'pipe', 'pipe'] })
  const exited = once(child, 'exit')
  let log = ''
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', text => { log = (log + text).slice(-4000) })
  const end = async (signal: NodeJS.Signals) => {
    if (!hasEnded(child)) child.kill(signal)
    await exited
  }
  const server = {
    pid: child.pid as number, address: `127.0.0.1:${port}`, adminSocket: socket, stop: () => end('SIGTERM'),
    async [Symbol.asyncDispose] () {
      await end('SIGKILL')
      rmSync(folder, { recursive: true, force: true })
    }
  }
  try {
    await untilItAnswers(socket, child)
    return server
  } catch (error) {
    await server[Symbol.asyncDispose]()
    throw new Error(`SPIRE did not start: ${log}`, { cause: error })
  }
}

async function untilItAnswers (socket: string, child: ChildProcess): Promise<void> {
  const end = performance.now() + startTimeoutMs
  for (;;) {
    await using channel = openUnixChannel(socket)
    try {
      return void await channel.client(bundleService).getBundle({}, { timeoutMs: 1_000 })
    } catch (error) {
      if (hasEnded(child) || performance.now() > end) throw error
    }
    await sleep(100)
  }
}

function hasEnded ({ exitCode, signalCode }: ChildProcess): boolean { return exitCode !== null || signalCode !== null }

async function freePort (): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  return port
}
