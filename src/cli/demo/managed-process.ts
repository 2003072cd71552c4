import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { createWriteStream, type WriteStream } from 'node:fs'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'

export interface ManagedProcessOptions {
  /** For people, e.g. `agent of node-1`. */
  readonly name: string
  /** Program and arguments. */
  readonly command: readonly string[]
  /** Where both its streams go. */
  readonly logFile: string
  /** Every line of its standard output. */
  readonly onLine?: (line: string) => void
  /** Keeps standard output out of the log: it talks with us, without end. */
  readonly talks?: boolean
}

const patienceMs = 5_000
const linesToShow = 8

/** A child that ends with this process, however that ends. It is out of reach of the terminal's Ctrl-C: its owner decides when it stops. */
export class ManagedProcess implements AsyncDisposable {
  readonly name: string
  readonly logFile: string
  readonly #child: ChildProcess
  readonly #log: WriteStream
  readonly #gone: Promise<void>
  readonly #waiters = new Set<(line: string) => void>()
  #tail: string[] = []
  #failure: Error | undefined

  constructor ({ name, command, logFile, onLine, talks = false }: ManagedProcessOptions) {
    this.name = name
    this.logFile = logFile
    this.#log = createWriteStream(logFile, { flags: 'a', mode: 0o600 })
    const [program = '', ...words] = [...dyingWithParent(), ...command]
    this.#child = spawn(program, words, { detached: true, stdio: ['pipe', 'pipe', 'pipe'] })
    this.#child.stdin?.on('error', () => {})
    for (const stream of [this.#child.stdout, this.#child.stderr]) {
      if (stream === null) continue
      createInterface({ input: stream }).on('line', line => {
        if (stream === this.#child.stdout) onLine?.(line)
        if (!talks || stream === this.#child.stderr) {
          this.#log.write(`${line}\n`)
          this.#tail = [...this.#tail.slice(1 - linesToShow), line]
        }
        for (const waiter of this.#waiters) waiter(line)
      })
    }
    this.#gone = new Promise(resolve => {
      this.#child.once('error', error => { this.#failure = error; resolve() })
      this.#child.once('close', () => resolve())
    })
  }

  get pid (): number { return this.#child.pid as number }
  get running (): boolean { return this.#failure === undefined && this.#child.exitCode === null && this.#child.signalCode === null }
  /** The last lines of its output. */
  get tail (): readonly string[] { return this.#tail }

  send (line: string): void { this.#child.stdin?.write(`${line}\n`) }

  /** The first line from now on that `read` makes something of. Fails when the process ends or the deadline passes. */
  async line<T> (what: string, read: (line: string) => T | undefined, timeoutMs = 60_000): Promise<T> {
    const { promise, resolve } = Promise.withResolvers<T>()
    const waiter = (line: string) => {
      const value = read(line)
      if (value !== undefined) resolve(value)
    }
    const ended = new AbortController()
    this.#waiters.add(waiter)
    try {
      return await Promise.race([
        promise,
        this.ended(),
        sleep(timeoutMs, undefined, { signal: ended.signal }).then(() => {
          throw new Error(`${this.name} did not say within ${timeoutMs / 1_000} s: ${what}`)
        })
      ])
    } finally {
      this.#waiters.delete(waiter)
      ended.abort()
    }
  }

  /** Never resolves: throws once the process has ended. */
  async ended (): Promise<never> {
    await this.#gone
    const { exitCode, signalCode } = this.#child
    const last = this.#tail.map(line => `\n  ${line}`).join('')
    throw new Error(`${this.name} ended (${this.#failure?.message ?? signalCode ?? `exit code ${exitCode}`})${last}`)
  }

  kill (): void { if (this.running) this.#child.kill('SIGKILL') }

  async [Symbol.asyncDispose] (): Promise<void> {
    if (this.running) {
      this.#child.stdin?.end()
      this.#child.kill('SIGTERM')
      const rest = new AbortController()
      await Promise.race([this.#gone, sleep(patienceMs, undefined, { signal: rest.signal }).catch(() => {})])
      rest.abort()
      this.kill()
    }
    await this.#gone
    this.#log.end()
    await once(this.#log, 'close')
  }
}

let prefix: readonly string[] | undefined

/** Makes the kernel kill the child when this process dies, `kill -9` included. Without util-linux only an orderly end takes it along. */
function dyingWithParent (): readonly string[] {
  const words = ['setpriv', '--pdeathsig', 'KILL', '--']
  return prefix ??= spawnSync(words[0] as string, [...words.slice(1), 'true'], { stdio: 'ignore' }).status === 0 ? words : []
}
