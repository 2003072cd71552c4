import type { Clock } from '../runtime/clock.ts'
import type { Logger } from '../runtime/logger.ts'
import { nap } from '../runtime/nap.ts'
import { Waiter } from '../runtime/waiter.ts'
import { Watchable } from '../runtime/watchable.ts'
import { SpiffeError } from '../spiffe/errors.ts'
import { encodePem } from '../x509/pem.ts'
import { askReload } from './ask-reload.ts'
import { awaitServed } from './await-served.ts'
import type { ChildProgram } from './child-program.ts'
import type { Delivered } from './deliver.ts'
import type { FilesConfig } from './files-config.ts'
import type { FilesMetrics } from './files-metrics.ts'
import { runCommand } from './run-command.ts'
import { signalProcess } from './signal-process.ts'

export interface ReloadDeps {
  readonly config: Pick<FilesConfig, 'signalled' | 'reload' | 'serves'>
  readonly child: Pick<ChildProgram, 'tell'> | undefined
  readonly clock: Clock
  readonly log: Logger
  readonly metrics: FilesMetrics
  /** Told when nobody reads the files of before any more. */
  readonly onReloaded: () => Promise<void>
  /** For health: what fails, or `undefined`. */
  readonly onTrouble: (message: string | undefined) => void
}

/** Nobody serves what is not in the files any more. */
const superseded = new Error('there are newer files')
const firstPauseMs = 1_000
const longestPauseMs = 60_000

/** Tells the program of files that are new, again and again where that fails or it does not serve them. */
export class Reloader {
  readonly #deps: ReloadDeps
  readonly #newest = new Watchable<Delivered | undefined>(undefined)
  readonly #newer = new Waiter()
  #looking: AbortController | undefined

  constructor (deps: ReloadDeps) { this.#deps = deps }

  take (delivered: Delivered): void {
    this.#newest.set(delivered)
    this.#newer.wake()
    this.#looking?.abort(superseded)
  }

  /** Until the signal aborts. */
  async run (signal: AbortSignal): Promise<void> {
    const { clock } = this.#deps
    for await (const delivered of this.#newest.watch(signal)) {
      if (delivered === undefined) continue
      for (let pauseMs = firstPauseMs; ; pauseMs = Math.min(longestPauseMs, pauseMs * 2)) {
        if (await this.#attempt(delivered, pauseMs, signal)) break
        if (this.#newest.value === delivered) await nap(clock, pauseMs, this.#newer.wait(signal), signal)
        // Else what was waited for would stay on the signal.
        this.#newer.wake()
        if (this.#newest.value !== delivered) break
      }
    }
  }

  async #attempt (delivered: Delivered, retryInMs: number, signal: AbortSignal): Promise<boolean> {
    const { config, child, clock, log, metrics, onReloaded, onTrouble } = this.#deps
    const serial = delivered.x509.leaf.serialNumber
    try {
      await child?.tell()
      if (config.signalled !== undefined) {
        const pid = signalProcess(config.signalled)
        log.info({ pid, signal: config.signalled.signal }, 'the program was sent a signal')
      }
      const { command, http, timeoutMs } = config.reload
      if (command !== undefined) await runCommand(command, timeoutMs, clock, signal)
      if (http !== undefined) await askReload(http, timeoutMs, clock, signal)
      metrics.reloaded('done')
    } catch (error) {
      if (!(error instanceof SpiffeError)) throw error
      metrics.reloaded('failed')
      onTrouble(error.message)
      log.error({ code: error.code, reason: error.message, serial, retryInMs }, 'the program could not be told of new files')
      return false
    }
    return await this.#look(delivered, retryInMs, signal).then(async served => {
      if (served) {
        onTrouble(undefined)
        await onReloaded()
      }
      return served
    })
  }

  async #look ({ x509 }: Delivered, retryInMs: number, signal: AbortSignal): Promise<boolean> {
    const { config: { serves }, clock, log, metrics, onTrouble } = this.#deps
    if (serves === undefined) return true
    const own = {
      cert: x509.chain.map(der => encodePem('CERTIFICATE', der)).join(''), key: encodePem('PRIVATE KEY', x509.privateKey)
    }
    const looking = this.#looking = new AbortController()
    const stop = () => looking.abort(signal.reason)
    signal.addEventListener('abort', stop, { once: true })
    try {
      const began = clock.monotonicMs()
      await awaitServed(serves, x509.leaf, own, { clock }, looking.signal)
      metrics.served(true)
      const afterMs = Math.round(clock.monotonicMs() - began)
      log.info({ serial: x509.leaf.serialNumber, afterMs }, 'the program serves the new certificate')
      return true
    } catch (error) {
      if (error === superseded) return false
      if (!(error instanceof SpiffeError)) throw error
      metrics.served(false)
      onTrouble(error.message)
      log.error({ code: error.code, reason: error.message, retryInMs }, 'the program does not serve the new certificate')
      return false
    } finally {
      this.#looking = undefined
      signal.removeEventListener('abort', stop)
    }
  }
}
