import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { ExternalProgram } from '../plugins/external-program.ts'
import { openUnixChannel, type Channel } from '../rpc/channel.ts'
import { RpcError } from '../rpc/rpc-error.ts'
import { openRpcServer } from '../rpc/server.ts'
import type { Logger } from '../runtime/logger.ts'
import { Mailbox } from '../runtime/mailbox.ts'
import { SpiffeError } from '../spiffe/errors.ts'
import {
  type ConnInfoInit, goPluginBrokerService, goPluginControllerService, goPluginStdioService, StdioData_Channel
} from '../wire/generated/go-plugin.ts'
import { pluginConfigService } from '../wire/generated/plugin-config.ts'
import { pluginInitService } from '../wire/generated/plugin-init.ts'
import type { PluginHost } from './plugin-host.ts'
import { LineReader } from './plugin-output.ts'
import { PluginProcess } from './plugin-process.ts'

export interface PluginIdentity {
  /** SPIRE's name of the plugin type. */
  readonly type: string
  readonly name: string
  readonly program: ExternalProgram
  /** Full name of the service that makes it a plugin of its type. */
  readonly service: string
}

/** Of one answer of a plugin. */
const maxMessageBytes = 4 * 1024 * 1024
/** Connecting is a matter of a moment; configuring may mean calls across the net. */
const setUpTimeoutMs = 60_000
const deinitTimeoutMs = 10_000
/** As go-plugin has it, from the plea to end to the kill. */
const graceMs = 2_000
const takesNone = 'it takes no configuration, and has plugin_data'
/** Where SPIRE's plugins look for host services. */
const hostServiceId = 1

/** One run of a plugin: its process, initialised and configured, and the way to it. */
export class PluginSession {
  readonly channel: Channel
  readonly services: ReadonlySet<string>
  readonly #process: PluginProcess
  readonly #host: PluginHost
  readonly #log: Logger
  readonly #scope: AsyncDisposableStack
  /** What it was configured with. Secret. */
  #data = ''

  private constructor (
    channel: Channel, services: ReadonlySet<string>, process: PluginProcess, host: PluginHost, log: Logger, scope: AsyncDisposableStack
  ) {
    this.channel = channel
    this.services = services
    this.#process = process
    this.#host = host
    this.#log = log
    this.#scope = scope
  }

  /**
   * @throws {SpiffeError} `plugin_checksum_differs`, `plugin_not_started`, `plugin_handshake_failed`, `plugin_config_refused`,
   * `file_unusable`; nothing is left of it then. When the signal aborts, its reason.
   */
  static async start (plugin: PluginIdentity, host: PluginHost, log: Logger, signal: AbortSignal): Promise<PluginSession> {
    return await PluginSession.#open(plugin, host, log, signal, async (session, signal) => {
      const data = await readData(plugin.program)
      await configure(session.channel, session.services, data, host, signal)
      session.#data = data ?? ''
      log.info({ pid: session.pid }, 'plugin is running')
      return session
    })
  }

  /**
   * Runs it for as long as it takes to ask it what is wrong with its configuration, with which it is not configured.
   * @returns what it says, for people; nothing where all is well, and of one that has no such method
   * @throws {SpiffeError} as `start`
   */
  static async validate (plugin: PluginIdentity, host: PluginHost, log: Logger, signal: AbortSignal): Promise<readonly string[]> {
    const { session, notes } = await PluginSession.#open(plugin, host, log, signal, async (session, signal) => {
      const data = await readData(plugin.program)
      return { session, notes: await validate(session.channel, session.services, data, host, signal) }
    })
    await session.close()
    return notes
  }

  static async #open<T> (
    plugin: PluginIdentity, host: PluginHost, log: Logger, signal: AbortSignal,
    work: (session: PluginSession, signal: AbortSignal) => Promise<T>
  ): Promise<T> {
    await using scope = new AsyncDisposableStack()
    const folder = await mkdtemp(join(tmpdir(), 'assay-plugin-'))
    scope.defer(() => rm(folder, { recursive: true, force: true }))
    const process = await PluginProcess.start({ ...plugin, folder, clock: host.clock, log }, signal)
    scope.defer(async () => {
      process.kill()
      await process.ended
    })
    const channel = scope.use(openUnixChannel(process.socketPath, { maxMessageBytes }))
    const calls = new AbortController()
    scope.defer(() => calls.abort(new Error('the plugin is closed')))
    const hostNames = await offerHostServices(channel, folder, host, log, scope, calls.signal)
    followOutput(channel, log, calls.signal)
    const died = new AbortController()
    void process.ended.then(how => died.abort(new SpiffeError('plugin_not_started', `it is over (${how}) before it was set up`)))
    const setUp = AbortSignal.any([signal, died.signal])
    const services = await initialise(channel, plugin, hostNames, log, setUp)
    const owned = new AsyncDisposableStack()
    const result = await work(new PluginSession(channel, services, process, host, log, owned), setUp)
    owned.use(scope.move())
    return result
  }

  get pid (): number { return this.#process.pid }
  get ended (): Promise<string> { return this.#process.ended }

  /**
   * Gives it what its file says by now, if that is something else. What it refuses, it goes on without.
   * @returns whether it was something else
   * @throws {SpiffeError} `plugin_config_refused`, `file_unusable`
   */
  async reconfigure (program: ExternalProgram, signal: AbortSignal): Promise<boolean> {
    const data = await readData(program) ?? ''
    if (data === this.#data) return false
    await configure(this.channel, this.services, data, this.#host, signal)
    this.#data = data
    return true
  }

  /** Lets it end by itself; kills it when it does not. */
  async close (): Promise<void> {
    const { clock } = this.#host
    try {
      await this.channel.client(pluginInitService).deinit({}, { timeoutMs: deinitTimeoutMs })
    } catch (error) {
      if (!(error instanceof RpcError && error.status === 'UNIMPLEMENTED')) this.#log.debug({ err: error }, 'plugin was not deinitialised')
    }
    // Not answered where the plugin is faster to end.
    await this.channel.client(goPluginControllerService).shutdown({}, { timeoutMs: graceMs }).catch(() => {})
    const over = new AbortController()
    await Promise.race([this.#process.ended, clock.sleep(graceMs, over.signal).catch(() => {})])
    over.abort()
    await this.#scope.disposeAsync()
    this.#log.info({ pid: this.pid, how: await this.ended }, 'plugin has ended')
  }

  /** After its death: takes away what it left. */
  async discard (): Promise<void> { await this.#scope.disposeAsync() }
}

/** Tells the plugin where to find them, also where there are none: some look before they know. */
async function offerHostServices (
  channel: Channel, folder: string, { hostServices = [], clock }: PluginHost, log: Logger, scope: AsyncDisposableStack, signal: AbortSignal
): Promise<string[]> {
  const address = join(folder, 'host.sock')
  const server = scope.use(openRpcServer({ services: hostServices, log, clock, limits: { stopGraceMs: graceMs } }))
  await server.listenUnix({ path: address, mode: 0o600 })
  const places = new Mailbox<ConnInfoInit>()
  places.put({ serviceId: hostServiceId, network: 'unix', address })
  scope.defer(() => places.close())
  void inBackground(log, 'the broker', async () => {
    for await (const { serviceId } of channel.client(goPluginBrokerService).startStream(places, { signal })) {
      log.debug({ serviceId }, 'the plugin listens for us elsewhere too, which nobody asks for')
    }
  })
  return hostServices.map(({ service }) => service.name)
}

function followOutput (channel: Channel, log: Logger, signal: AbortSignal): void {
  void inBackground(log, 'its output', async () => {
    const [output, errors] = [0, 1].map(() => new LineReader(line => { if (line !== '') log.debug({ line }, 'plugin wrote') }))
    for await (const { channel: from, data } of channel.client(goPluginStdioService).streamStdio({}, { signal })) {
      (from === StdioData_Channel.STDERR ? errors : output)?.write(data)
    }
  })
}

async function inBackground (log: Logger, what: string, work: () => Promise<void>): Promise<void> {
  try {
    await work()
  } catch (error) {
    // It ends with the process, which somebody else looks after.
    log.debug({ reason: (error as Error).message }, `the stream of ${what} is over`)
  }
}

async function initialise (
  channel: Channel, { type, service }: PluginIdentity, hostServiceNames: string[], log: Logger, signal: AbortSignal
): Promise<Set<string>> {
  let names
  try {
    const init = channel.client(pluginInitService).init({ hostServiceNames }, { signal, timeoutMs: setUpTimeoutMs })
    names = new Set((await init).pluginServiceNames)
  } catch (cause) {
    if (!(cause instanceof RpcError)) throw cause
    throw new SpiffeError('plugin_not_started', `it cannot be initialised: ${cause.status}: ${cause.message}`, { cause })
  }
  if (!names.has(service)) {
    throw new SpiffeError('plugin_handshake_failed', `it is no ${type} that is understood here: it does not serve ${service}`)
  }
  const used = new Set([service, pluginConfigService.name])
  for (const name of names) if (!used.has(name)) log.warn({ service: name }, 'a service of the plugin is not used')
  return names
}

async function configure (
  channel: Channel, services: ReadonlySet<string>, data: string | undefined, { trustDomain }: PluginHost, signal: AbortSignal
): Promise<void> {
  if (!services.has(pluginConfigService.name)) {
    if (data !== undefined) throw new SpiffeError('plugin_config_refused', takesNone)
    return
  }
  try {
    const request = { coreConfiguration: { trustDomain }, hclConfiguration: data ?? '' }
    await channel.client(pluginConfigService).configure(request, { signal, timeoutMs: setUpTimeoutMs })
  } catch (cause) {
    if (!(cause instanceof RpcError)) throw cause
    throw new SpiffeError('plugin_config_refused', `it refuses its configuration: ${cause.status}: ${cause.message}`, { cause })
  }
}

async function validate (
  channel: Channel, services: ReadonlySet<string>, data: string | undefined, { trustDomain }: PluginHost, signal: AbortSignal
): Promise<readonly string[]> {
  if (!services.has(pluginConfigService.name)) return data === undefined ? [] : [takesNone]
  try {
    const request = { coreConfiguration: { trustDomain }, hclConfiguration: data ?? '' }
    const { valid, notes } = await channel.client(pluginConfigService).validate(request, { signal, timeoutMs: setUpTimeoutMs })
    return valid || notes.length > 0 ? notes : ['it refuses its configuration, and does not say why']
  } catch (cause) {
    if (!(cause instanceof RpcError)) throw cause
    return cause.status === 'UNIMPLEMENTED' ? [] : [`it refuses its configuration: ${cause.status}: ${cause.message}`]
  }
}

async function readData ({ data }: ExternalProgram): Promise<string | undefined> {
  if (data === undefined || 'hcl' in data) return data?.hcl
  const { file: path } = data
  try {
    return await readFile(path, 'utf8')
  } catch (cause) {
    throw new SpiffeError('file_unusable', `plugin_data_file ${path} cannot be read: ${(cause as NodeJS.ErrnoException).code}`, { cause })
  }
}
