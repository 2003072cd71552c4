import { closeSync, fstatSync, openSync, readSync, rmSync } from 'node:fs'
import { StringDecoder } from 'node:string_decoder'
import type { Logger } from '../../runtime/logger.ts'

const levels = { trace: 'trace', debug: 'debug', info: 'info', warning: 'warn', warn: 'warn', error: 'error', critical: 'error' } as const
const mostAtOnce = 64 * 1024
/** Without an end it is no line of a log. */
const longestLine = 16 * 1024
/** For who asks what it said last. */
const mostRecent = 20
const longestRecent = 1_000
/** Of what was written before this process looked. */
const recentBytes = 16 * 1024

/**
 * Passes on what Envoy writes into a file. A file and not a pipe: an Envoy that outlives the agent dies of a pipe that nobody reads.
 */
export class EnvoyLog {
  readonly #file: string
  readonly #log: Logger
  #offset = 0
  #decoder = new StringDecoder('utf8')
  #rest = ''
  readonly #recent: string[] = []

  constructor (file: string, log: Logger) {
    this.#file = file
    this.#log = log
  }

  /** The last lines, oldest first, without their ends; also of an Envoy that has ended since. */
  get recent (): readonly string[] { return this.#recent }

  /** @returns a descriptor for a new Envoy to write to; the caller closes it. What was there before is gone. */
  begin (): number {
    // One that drains writes on where nobody looks.
    rmSync(this.#file, { force: true })
    const fd = openSync(this.#file, 'w', 0o600)
    this.#offset = 0
    this.#decoder = new StringDecoder('utf8')
    this.#rest = ''
    return fd
  }

  /** What an Envoy wrote until now is not passed on. */
  skip (): void {
    this.#offset = this.#read(fd => {
      const { size } = fstatSync(fd)
      const from = Math.max(0, size - recentBytes)
      const buffer = Buffer.alloc(size - from)
      const bytes = readSync(fd, buffer, 0, buffer.length, from)
      // The first one may be the end of a line only, and after the last there may be none yet.
      const lines = buffer.toString('utf8', 0, bytes).split('\n').slice(from === 0 ? 0 : 1, -1)
      for (const line of lines) this.#keep(line)
      return size
    }) ?? 0
  }

  /** Passes on the lines that have come since the last time. */
  pass (): void {
    const buffer = Buffer.alloc(mostAtOnce)
    this.#read(fd => {
      for (;;) {
        const bytes = readSync(fd, buffer, 0, buffer.length, this.#offset)
        if (bytes === 0) return
        this.#offset += bytes
        const lines = (this.#rest + this.#decoder.write(buffer.subarray(0, bytes))).split('\n')
        this.#rest = (lines.pop() ?? '').slice(-longestLine)
        for (const line of lines) this.#tell(line)
      }
    })
  }

  #keep (line: string): void {
    this.#recent.push(line.slice(0, longestRecent))
    if (this.#recent.length > mostRecent) this.#recent.shift()
  }

  #tell (line: string): void {
    this.#keep(line)
    const [, level = '', text = line] = /^(\w+) (.*)$/.exec(line) ?? []
    const known = levels[level as keyof typeof levels] as (typeof levels)[keyof typeof levels] | undefined
    this.#log[known ?? 'info']({ from: 'envoy' }, known === undefined ? line : text)
  }

  #read<T> (use: (fd: number) => T): T | undefined {
    let fd: number
    try {
      fd = openSync(this.#file, 'r')
    } catch {
      return undefined
    }
    try {
      return use(fd)
    } finally {
      closeSync(fd)
    }
  }
}
