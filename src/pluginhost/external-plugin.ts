import type { CallOptions, Channel } from '../rpc/channel.ts'
import { RpcError } from '../rpc/rpc-error.ts'
import type { Logger } from '../runtime/logger.ts'
import { SpiffeError } from '../spiffe/errors.ts'
import type { PluginHost } from './plugin-host.ts'
import { type PluginIdentity, PluginSession } from './plugin-session.ts'

export interface PluginCallOptions {
  readonly signal?: AbortSignal | undefined
  /** 30 s unless given. */
  readonly timeoutMs?: number
}

const callTimeoutMs = 30_000
const firstPauseMs = 1_000
const longestPauseMs = 60_000

/**
 * A program that is a plugin, kept running: one that dies is started again, with ever longer pauses, and until it is there all that needs
 * it is refused (ADR 0031).
 */
export class ExternalPlugin implements AsyncDisposable {
  readonly #identity: PluginIdentity
  readonly #host: PluginHost
  readonly #log: Logger
  readonly #closing = new AbortController()
  readonly #restarted: Array<() => Promise<void>> = []
  #session: PluginSession | undefined
  readonly #run: Promise<void>
  #reconfigured: Promise<void> = Promise.resolve()

  private constructor (identity: PluginIdentity, host: PluginHost, log: Logger, session: PluginSession) {
    this.#identity = identity
    this.#host = host
    this.#log = log
    this.#session = session
    this.#run = this.#keepRunning(session)
    const { data } = identity.program
    if (data === undefined || 'hcl' in data) return
    host.onReconfigure?.(() => { this.#reconfigured = this.#reconfigured.then(() => this.#reconfigure()) }, this.#closing.signal)
  }

  /** @throws {SpiffeError} what keeps it from running; it is not tried again then. When the signal aborts, its reason. */
  static async start (identity: PluginIdentity, host: PluginHost, signal: AbortSignal): Promise<ExternalPlugin> {
    const log = host.log.child({ plugin: identity.name, pluginType: identity.type })
    if (identity.program.checksum === undefined) log.warn('plugin_checksum is not set: any file at that path is run')
    return new ExternalPlugin(identity, host, log, await PluginSession.start(identity, host, log, signal))
  }

  get name (): string { return this.#identity.name }
  get log (): Logger { return this.#log }
  get pid (): number | undefined { return this.#session?.pid }

  /** Called each time after it was started again, before it is used. What it throws starts it anew. */
  onRestarted (listener: () => Promise<void>): void { this.#restarted.push(listener) }

  /**
   * The way to the process that runs now.
   * @throws {SpiffeError} `plugin_unavailable`
   */
  get channel (): Channel {
    if (this.#session !== undefined) return this.#session.channel
    throw new SpiffeError('plugin_unavailable', `the plugin ${this.name} is not running`, { retryAfterMs: 1_000 })
  }

  /**
   * Asks it once.
   * @throws {SpiffeError} `plugin_unavailable`: it does not run, ended meanwhile or took too long; `plugin_failed` with the `RpcError` that
   * it answered as its cause. When the signal aborts, its reason.
   */
  async call<T> (
    work: (channel: Channel, options: CallOptions) => Promise<T>, { signal, timeoutMs = callTimeoutMs }: PluginCallOptions = {}
  ): Promise<T> {
    try {
      return await work(this.channel, { signal, timeoutMs })
    } catch (error) {
      throw this.refusal(error)
    }
  }

  /** What a failed call of it means to us. */
  refusal (error: unknown): unknown {
    if (!(error instanceof RpcError)) {
      if (!(error instanceof SpiffeError) || error.code.startsWith('plugin_')) return error
      return new SpiffeError('plugin_failed', `the plugin ${this.name} answers what cannot be read: ${error.message}`, { cause: error })
    }
    const { status, message } = error
    if (status === 'UNAVAILABLE' || status === 'CANCELLED') {
      return new SpiffeError('plugin_unavailable', `the plugin ${this.name} cannot be reached: ${message}`, { cause: error })
    }
    if (status === 'DEADLINE_EXCEEDED') {
      return new SpiffeError('plugin_unavailable', `the plugin ${this.name} did not answer in time`, { cause: error })
    }
    return new SpiffeError('plugin_failed', `the plugin ${this.name} answers ${status}: ${message}`, { cause: error })
  }

  async [Symbol.asyncDispose] (): Promise<void> {
    this.#closing.abort(new Error('the plugin is closed'))
    await this.#reconfigured
    await this.#run
  }

  /** One that does not run now reads its file when it is started again. */
  async #reconfigure (): Promise<void> {
    try {
      const isNew = await this.#session?.reconfigure(this.#identity.program, this.#closing.signal)
      if (isNew !== undefined) this.#log.info(isNew ? 'plugin was configured anew' : 'plugin_data_file is as it was: plugin stays as it is')
    } catch (error) {
      if (!this.#closing.signal.aborted) this.#log.error({ err: error }, 'plugin could not be configured anew, and stays as it is')
    }
  }

  async #keepRunning (first: PluginSession): Promise<void> {
    const { clock } = this.#host
    const { signal } = this.#closing
    const closing = new Promise<undefined>(resolve => signal.addEventListener('abort', () => resolve(undefined), { once: true }))
    let session: PluginSession | undefined = first
    let pauseMs = firstPauseMs
    while (!signal.aborted) {
      if (session !== undefined) {
        const began = clock.monotonicMs()
        const how = await Promise.race([session.ended, closing])
        if (how === undefined) break
        this.#session = undefined
        if (clock.monotonicMs() - began > longestPauseMs) pauseMs = firstPauseMs
        this.#log.error({ pid: session.pid, how, pauseMs }, 'plugin died; it is started again, and what needs it is refused until then')
        await session.discard()
      }
      await clock.sleep(pauseMs, signal).catch(() => {})
      pauseMs = Math.min(pauseMs * 2, longestPauseMs)
      session = signal.aborted ? undefined : await this.#restart(pauseMs, signal)
    }
    this.#session = undefined
    await session?.close()
  }

  async #restart (pauseMs: number, signal: AbortSignal): Promise<PluginSession | undefined> {
    let session
    try {
      session = await PluginSession.start(this.#identity, this.#host, this.#log, signal)
      this.#session = session
      for (const listener of this.#restarted) await listener()
      return session
    } catch (error) {
      this.#session = undefined
      await session?.close()
      if (!signal.aborted) this.#log.error({ err: error, pauseMs }, 'plugin could not be started again')
      return undefined
    }
  }
}
