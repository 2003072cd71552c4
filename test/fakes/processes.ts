import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { nodeFlags } from '../../src/cli/node-flags.ts'
import { openUnixChannel } from '../../src/rpc/channel.ts'
import { agentService } from '../../src/wire/generated/server-agent.ts'
import { bundleService } from '../../src/wire/generated/server-bundle.ts'
import { encodePem } from '../../src/x509/pem.ts'
import { lastWords } from './last-words.ts'

const program = join(import.meta.dirname, '../../src/cli/main.ts')
/** On a machine that others keep busy. */
const startTimeoutMs = 120_000

/** A child process that writes JSON lines to its standard error. */
export class RunningProcess {
  readonly #child: ChildProcess
  readonly #exited: Promise<void>
  #log = ''
  #running = true

  /**
   * @param netns path of a network namespace to run in; this one unless given
   * @param within words before the program's own, such as `unshare --mount --`
   */
  constructor (words: readonly string[], netns?: string, within: readonly string[] = []) {
    const before = [...netns === undefined ? [] : ['nsenter', `--net=${netns}`], ...within]
    const command = [...before, process.execPath, ...nodeFlags(words), program, ...words]
    this.#child = spawn(command[0] as string, command.slice(1), { stdio: ['ignore', 'ignore', 'pipe'] })
    this.#child.stderr?.setEncoding('utf8').on('data', text => { this.#log += text })
    this.#exited = this.#end()
  }

  get pid (): number { return this.#child.pid as number }
  /** Until it has ended, and its log is whole. */
  get running (): boolean { return this.#running }
  get exitCode (): number | null { return this.#child.exitCode }
  get log (): string { return this.#log }

  /** The first log line with this message. Fails when the process ends without one. */
  async logged (message: string): Promise<Record<string, unknown>> {
    const end = performance.now() + startTimeoutMs
    for (;;) {
      const line = this.lines().find(line => line['msg'] === message)
      if (line !== undefined) return line
      const how = this.exitCode ?? this.#child.signalCode
      if (!this.running) throw new Error(`the process ended (${how}) before it logged "${message}":\n${this.#log}`)
      if (performance.now() > end) throw new Error(`waited ${startTimeoutMs} ms for "${message}" in:\n${this.#log}`)
      await new Promise(resolve => setTimeout(resolve, 20))
    }
  }

  lines (): Array<Record<string, unknown>> {
    // The last one may not be whole yet.
    const whole = this.#log.split('\n').slice(0, -1).filter(line => line.startsWith('{') && line.endsWith('}'))
    return whole.map(line => JSON.parse(line) as Record<string, unknown>)
  }

  /** As an operator stops it. @returns its exit code */
  async stop (): Promise<number | null> {
    if (this.running) this.#child.kill('SIGTERM')
    await this.#exited
    return this.#child.exitCode
  }

  /** It stands still, its connections stay open. */
  pause (): void { this.#child.kill('SIGSTOP') }
  resume (): void { this.#child.kill('SIGCONT') }

  /** As the machine ends it: no handler runs. */
  async kill9 (): Promise<void> {
    if (this.running) this.#child.kill('SIGKILL')
    await this.#exited
  }

  async exited (): Promise<void> { await this.#exited }

  async #end (): Promise<void> {
    const closed = once(this.#child, 'close')
    await once(this.#child, 'exit')
    await lastWords(closed)
    this.#running = false
  }
}

interface Started {
  readonly process: RunningProcess
  /** Holds data, configuration and socket. */
  readonly folder: string
  readonly ownsFolder: boolean
}

abstract class Running implements AsyncDisposable {
  readonly process: RunningProcess
  readonly folder: string
  readonly #ownsFolder: boolean

  constructor ({ process, folder, ownsFolder }: Started) {
    this.process = process
    this.folder = folder
    this.#ownsFolder = ownsFolder
  }

  get pid (): number { return this.process.pid }
  get dataDir (): string { return join(this.folder, 'data') }
  log (): string { return this.process.log }
  stop (): Promise<number | null> { return this.process.stop() }
  kill9 (): Promise<void> { return this.process.kill9() }

  async [Symbol.asyncDispose] (): Promise<void> {
    await this.process.kill9()
    if (this.#ownsFolder) await rm(this.folder, { recursive: true, force: true })
  }
}

export interface StartServerOptions {
  readonly trustDomain?: string
  /** Of an earlier server, to start it again; a new one, removed at the end, if not given. */
  readonly folder?: string
  /** Any free one if not given. */
  readonly port?: number
  /** Keys for the `server` block. */
  readonly config?: Readonly<Record<string, unknown>>
  /** Whole blocks beside it. */
  readonly blocks?: Readonly<Record<string, unknown>>
  /** Path of a network namespace to run in; this one unless given. */
  readonly netns?: string | undefined
}

/** Blocks of a configuration by which servers on one database share a root and a JWT key. */
export function sharedKeys (keyFile: string): Readonly<Record<string, unknown>> {
  return { plugins: { KeyManager: [{ database: { plugin_data: { key_encryption_key_file: keyFile } } }] } }
}

export class RunningServer extends Running {
  readonly trustDomain: string
  readonly adminSocket: string
  readonly port: number

  constructor (started: Started, trustDomain: string, adminSocket: string, port: number) {
    super(started)
    this.trustDomain = trustDomain
    this.adminSocket = adminSocket
    this.port = port
  }

  get address (): string { return `127.0.0.1:${this.port}` }
}

/** `assay server run` in a process of its own; returns once it serves. Rate limits are off unless the configuration says otherwise. */
export async function startServer (options: StartServerOptions = {}): Promise<RunningServer> {
  const { process, folder, socket, trustDomain } = await spawnServer(options)
  const { address } = await ready(process, 'server is running', options.folder === undefined ? folder : undefined)
  const bound = /:(\d+)$/.exec(String(address))?.[1]
  return new RunningServer({ process, folder, ownsFolder: options.folder === undefined }, trustDomain, socket, Number(bound))
}

/** The same without waiting for it to serve. */
export async function spawnServer (
  { trustDomain = 'example.org', folder, port = 0, config = {}, blocks = {}, netns }: StartServerOptions = {}
): Promise<{ process: RunningProcess, folder: string, socket: string, trustDomain: string }> {
  const home = folder ?? await mkdtemp(join(tmpdir(), 'assay-server-'))
  const socket = join(home, 'admin.sock')
  await mkdir(join(home, 'data'), { recursive: true, mode: 0o700 })
  const file = await writeConfig(home, 'server.json', {
    server: {
      trust_domain: trustDomain,
      bind_address: '127.0.0.1',
      bind_port: port,
      socket_path: socket,
      data_dir: join(home, 'data'),
      ratelimit: { attestation: false, signing: false },
      ...config
    },
    ...blocks
  })
  return { process: new RunningProcess(['server', 'run', '-config', file], netns), folder: home, socket, trustDomain }
}

/** A server of ours or SPIRE's: where agents join it, and administrators ask. */
export type AnyServer = Pick<RunningServer, 'trustDomain' | 'address' | 'adminSocket'>

export interface StartAgentOptions {
  /** Where it joins. */
  readonly server: AnyServer
  /** Further replicas, which it may turn to. */
  readonly replicas?: readonly RunningServer[]
  /** Of an earlier agent, to start it again; a new one, removed at the end, if not given. */
  readonly folder?: string
  /** The message that is waited for; that it serves unless given. */
  readonly until?: string
  /** Keys for the `agent` block. */
  readonly config?: Readonly<Record<string, unknown>>
  /** Whole blocks of the `plugins` section. */
  readonly plugins?: Readonly<Record<string, unknown>>
  /** Whole blocks beside `agent` and `plugins`. */
  readonly blocks?: Readonly<Record<string, unknown>>
  /** Path of a network namespace to run in; this one unless given. */
  readonly netns?: string | undefined
}

export class RunningAgent extends Running {
  readonly socket: string

  constructor (started: Started, socket: string) {
    super(started)
    this.socket = socket
  }

  /** Its own SPIFFE ID, as it logged it at its start. */
  get id (): string {
    return String(this.process.lines().find(line => line['msg'] === 'agent has its identity')?.['agent'])
  }
}

/** `assay agent run` in a process of its own; returns once its socket is there. A new agent gets a join token and the server's bundle. */
export async function startAgent (
  { server, replicas = [], folder, until = 'agent is serving', config = {}, plugins, blocks = {}, netns }: StartAgentOptions
): Promise<RunningAgent> {
  const home = folder ?? await mkdtemp(join(tmpdir(), 'assay-agent-'))
  const socket = join(home, 'agent.sock')
  const bundle = join(home, 'bundle.pem')
  await mkdir(join(home, 'data'), { recursive: true, mode: 0o700 })
  const joining = existsSync(join(home, 'data', 'agent-data.json')) ? {} : { join_token: await prepareJoin(server, bundle) }
  const file = await writeConfig(home, 'agent.json', {
    agent: {
      trust_domain: server.trustDomain,
      server_addresses: [server, ...replicas].map(({ address }) => address),
      socket_path: socket,
      data_dir: join(home, 'data'),
      trust_bundle_path: bundle,
      experimental: { sync_interval: '200ms' },
      ...joining,
      ...config
    },
    ...plugins === undefined ? {} : { plugins },
    ...blocks
  })
  const process = new RunningProcess(['agent', 'run', '-config', file], netns)
  await ready(process, until, folder === undefined ? home : undefined)
  return new RunningAgent({ process, folder: home, ownsFolder: folder === undefined }, socket)
}

/** Writes the server's bundle, in PEM. @returns a join token */
export async function prepareJoin (server: Pick<RunningServer, 'adminSocket'>, bundleFile: string): Promise<string> {
  await using channel = openUnixChannel(server.adminSocket)
  const { x509Authorities } = await channel.client(bundleService).getBundle({})
  await writeFile(bundleFile, x509Authorities.map(({ asn1 }) => encodePem('CERTIFICATE', asn1)).join(''))
  return (await channel.client(agentService).createJoinToken({ ttl: 600 })).value
}

/** @param ownFolder to remove when the process does not come up */
async function ready (process: RunningProcess, message: string, ownFolder: string | undefined): Promise<Record<string, unknown>> {
  try {
    return await process.logged(message)
  } catch (error) {
    await process.kill9()
    if (ownFolder !== undefined) await rm(ownFolder, { recursive: true, force: true })
    throw error
  }
}

async function writeConfig (folder: string, name: string, config: object): Promise<string> {
  const file = join(folder, name)
  await writeFile(file, JSON.stringify(config), { mode: 0o600 })
  return file
}
