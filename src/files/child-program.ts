import { type ChildProcess, spawn } from 'node:child_process'
import { constants } from 'node:os'
import type { Clock } from '../runtime/clock.ts'
import type { Logger } from '../runtime/logger.ts'
import { SpiffeError } from '../spiffe/errors.ts'
import type { CommandConfig } from './files-config.ts'

/** How a program ended: its code, or as a shell counts signals, 128 and more. */
export interface ProgramEnd { readonly exitCode: number, readonly how: string }

/** A program that we start, tell of changes and end. Its input and output are ours. */
export class ChildProgram {
  readonly #config: CommandConfig
  readonly #clock: Clock
  readonly #log: Logger
  readonly #firstEnd = Promise.withResolvers<ProgramEnd>()
  #running: { readonly child: ChildProcess, readonly ended: Promise<ProgramEnd> } | undefined

  constructor (config: CommandConfig, { clock, log }: { readonly clock: Clock, readonly log: Logger }) {
    this.#config = config
    this.#clock = clock
    this.#log = log
  }

  /** Settles when the program has ended for the first time. */
  get firstEnd (): Promise<ProgramEnd> { return this.#firstEnd.promise }
  get pid (): number | undefined { return this.#running?.child.pid }

  /** Starts it, or one that ended since, as spiffe-helper does; tells one that runs. @throws {SpiffeError} `reload_failed` */
  async tell (): Promise<void> {
    const { renewSignal } = this.#config
    if (this.#running === undefined) await this.#start()
    else if (renewSignal !== undefined) this.#running.child.kill(renewSignal)
  }

  /** Passes a signal on. */
  forward (signal: NodeJS.Signals): void { this.#running?.child.kill(signal) }

  /** Has it end, and kills it when it takes too long. */
  async stop (signal: NodeJS.Signals): Promise<ProgramEnd | undefined> {
    if (this.#running === undefined) return undefined
    const { child, ended } = this.#running
    const { stopTimeoutMs } = this.#config
    const rest = new AbortController()
    child.kill(signal)
    this.#clock.sleep(stopTimeoutMs, rest.signal).then(() => {
      this.#log.warn({ pid: child.pid, timeoutMs: stopTimeoutMs }, 'the program does not end, and is killed')
      child.kill('SIGKILL')
    }, () => {})
    return await ended.finally(() => rest.abort())
  }

  async #start (): Promise<void> {
    const [program, ...args] = this.#config.argv
    const child = spawn(program, args, { stdio: 'inherit' })
    const ended = new Promise<ProgramEnd>(resolve => {
      child.once('exit', (code, signal) => {
        this.#running = undefined
        const exitCode = code ?? 128 + (signal === null ? 0 : constants.signals[signal])
        const end = { exitCode, how: signal === null ? `exit code ${exitCode}` : signal }
        this.#log[exitCode === 0 ? 'info' : 'warn']({ program, pid: child.pid, how: end.how }, 'the program has ended')
        resolve(end)
        this.#firstEnd.resolve(end)
      })
    })
    await new Promise<void>((resolve, reject) => {
      child.once('spawn', resolve).on('error', cause => {
        reject(new SpiffeError('reload_failed', `${program} cannot be started: ${cause.message}`, { cause }))
      })
    })
    this.#running = { child, ended }
    this.#log.info({ program, pid: child.pid }, 'the program is started')
  }
}
