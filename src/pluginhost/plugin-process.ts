import { type ChildProcess, spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import type { ExternalProgram } from '../plugins/external-program.ts'
import { systemClock, type Clock } from '../runtime/clock.ts'
import type { Logger } from '../runtime/logger.ts'
import { SpiffeError } from '../spiffe/errors.ts'
import { mostHandshakeBytes, parseHandshake } from './handshake-line.ts'
import { LineReader, pluginLog } from './plugin-output.ts'

export interface PluginProcessOptions {
  /** SPIRE's name of the plugin type, e.g. `WorkloadAttestor`; also the word by which a plugin knows that it is run as one. */
  readonly type: string
  readonly program: ExternalProgram
  /** Of this process alone: where the plugin puts its socket. */
  readonly folder: string
  readonly clock: Clock
  readonly log: Logger
}

/** As go-plugin has it. */
const startTimeoutMs = 60_000
const pipesMs = 500

/** A plugin's process that has said where it listens. */
export class PluginProcess {
  readonly socketPath: string
  /** How it ended, for people. */
  readonly ended: Promise<string>
  readonly #child: ChildProcess

  private constructor (child: ChildProcess, ended: Promise<string>, socketPath: string) {
    this.#child = child
    this.ended = ended
    this.socketPath = socketPath
  }

  /**
   * @throws {SpiffeError} `plugin_checksum_differs`, `plugin_not_started`, `plugin_handshake_failed`; the process has then ended.
   * When the signal aborts, its reason.
   */
  static async start (options: PluginProcessOptions, signal: AbortSignal): Promise<PluginProcess> {
    const { type, program: { command, args, checksum }, folder, clock, log } = options
    if (checksum !== undefined) await checkSum(command, checksum)
    const env = {
      ...process.env, [type]: type, PLUGIN_PROTOCOL_VERSIONS: '1', PLUGIN_MIN_PORT: '10000', PLUGIN_MAX_PORT: '25000',
      PLUGIN_UNIX_SOCKET_DIR: folder
    }
    const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'], env })
    const started = Promise.withResolvers<void>()
    child.once('spawn', started.resolve).on('error', cause => {
      started.reject(new SpiffeError('plugin_not_started', `${command} cannot be run: ${(cause as NodeJS.ErrnoException).code}`, { cause }))
    })
    const ended = endOf(child)
    const firstLine = readOutput(child, log)
    await started.promise
    const over = new AbortController()
    const stop = AbortSignal.any([signal, over.signal])
    const tooLate = clock.sleep(startTimeoutMs, stop).then(() => {
      throw new SpiffeError('plugin_not_started', `${command} did not say within ${startTimeoutMs / 1000} s where it listens`)
    })
    const noLine = ended.then(how => {
      throw new SpiffeError('plugin_not_started', `${command} is over (${how}) before it said where it listens: is it a plugin of ` +
        `the type ${type}? What it wrote is in the log at the level debug`)
    })
    noLine.catch(() => {})
    try {
      return new PluginProcess(child, ended, parseHandshake(await Promise.race([firstLine, tooLate, noLine])))
    } catch (error) {
      child.kill('SIGKILL')
      await ended
      throw error
    } finally {
      over.abort()
      tooLate.catch(() => {})
    }
  }

  get pid (): number { return this.#child.pid as number }

  kill (): void { this.#child.kill('SIGKILL') }
}

/** All that it wrote has been read by then. A process of its own may hold its pipes for longer: that one is not waited for. */
async function endOf (child: ChildProcess): Promise<string> {
  const closed = new Promise<void>(resolve => child.once('close', () => resolve()))
  const how = await new Promise<string>(resolve => {
    child.once('exit', (code, name) => resolve(name === null ? `exit code ${code}` : `ended by ${name}`))
  })
  // Pipes live in real time.
  const over = new AbortController()
  await Promise.race([closed, systemClock.sleep(pipesMs, over.signal).catch(() => {})])
  over.abort()
  for (const pipe of [child.stdout, child.stderr]) pipe?.destroy()
  return how
}

/** @returns its first line; the lines after that, and all of its errors, go to the log */
async function readOutput (child: ChildProcess, log: Logger): Promise<string> {
  const first = Promise.withResolvers<string>()
  let isFirst = true
  const refuseLong = () => {
    first.reject(new SpiffeError('plugin_handshake_failed', `its first line of output is longer than ${mostHandshakeBytes} characters`))
  }
  const output = new LineReader(line => {
    if (!isFirst) return log.debug({ line }, 'plugin wrote')
    isFirst = false
    if (line.length <= mostHandshakeBytes) first.resolve(line)
    else refuseLong()
  })
  const errors = new LineReader(pluginLog(log))
  child.stdout?.on('data', (bytes: Buffer) => {
    output.write(bytes)
    if (isFirst && output.begun > mostHandshakeBytes) refuseLong()
  }).once('end', () => output.end())
  child.stderr?.on('data', (bytes: Buffer) => errors.write(bytes)).once('end', () => errors.end())
  return await first.promise
}

async function checkSum (path: string, expected: string): Promise<void> {
  const hash = createHash('sha256')
  try {
    for await (const bytes of createReadStream(path)) hash.update(bytes as Buffer)
  } catch (cause) {
    throw new SpiffeError('plugin_not_started', `${path} cannot be read: ${(cause as NodeJS.ErrnoException).code}`, { cause })
  }
  const found = hash.digest('hex')
  if (found !== expected) throw new SpiffeError('plugin_checksum_differs', `${path} has the SHA-256 ${found}, and not plugin_checksum`)
}
