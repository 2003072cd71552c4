import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { cpuMsOf } from '../measure/process-usage.ts'
import type { BareFetchOptions } from './bare-fetch-program.ts'

/** The floor: the program in a process of its own. */
export class BareFetch implements AsyncDisposable {
  readonly #child: ChildProcess
  readonly #count: number
  readonly #lines: AsyncIterator<string>

  private constructor (child: ChildProcess, count: number) {
    this.#child = child
    this.#count = count
    this.#lines = createInterface({ input: child.stdout! })[Symbol.asyncIterator]()
  }

  static async start (options: BareFetchOptions): Promise<BareFetch> {
    const words = [join(import.meta.dirname, 'bare-fetch-program.ts'), JSON.stringify(options)]
    const child = spawn(process.execPath, words, { stdio: ['pipe', 'pipe', 'inherit'] })
    const fetcher = new BareFetch(child, options.urls.length)
    await fetcher.#next()
    return fetcher
  }

  /** Fetches from all once. @returns milliseconds of CPU for each */
  async measure (): Promise<number> {
    const before = cpuMsOf(this.#child.pid as number)
    this.#child.stdin!.write('again\n')
    const certificates = Number(await this.#next())
    if (!(certificates >= this.#count)) throw new Error(`the program that only fetches got ${certificates} certificates`)
    return (cpuMsOf(this.#child.pid as number) - before) / this.#count
  }

  async [Symbol.asyncDispose] (): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return
    this.#child.stdin!.end()
    await once(this.#child, 'exit')
  }

  async #next (): Promise<string> {
    const { value, done } = await this.#lines.next()
    if (done === true) throw new Error('the program that only fetches ended')
    return value
  }
}
