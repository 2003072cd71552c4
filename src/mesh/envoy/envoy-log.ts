import { closeSync, fstatSync, openSync, readSync } from 'node:fs'
import { StringDecoder } from 'node:string_decoder'
import type { Logger } from '../../runtime/logger.ts'

const levels = { trace: 'trace', debug: 'debug', info: 'info', warning: 'warn', warn: 'warn', error: 'error', critical: 'error' } as const
const mostAtOnce = 64 * 1024
/** Without an end it is no line of a log. */
const longestLine = 16 * 1024

/**
 * Passes on what Envoy writes into a file. A file and not a pipe: an Envoy that outlives the agent dies of a pipe that nobody reads.
 */
export class EnvoyLog {
  readonly #file: string
  readonly #log: Logger
  #offset = 0
  #decoder = new StringDecoder('utf8')
  #rest = ''

  constructor (file: string, log: Logger) {
    this.#file = file
    this.#log = log
  }

  /** @returns a descriptor for a new Envoy to write to; the caller closes it. What was there before is gone. */
  begin (): number {
    const fd = openSync(this.#file, 'w', 0o600)
    this.#offset = 0
    this.#decoder = new StringDecoder('utf8')
    this.#rest = ''
    return fd
  }

  /** What an Envoy wrote until now is left unread. */
  skip (): void { this.#offset = this.#read(fd => fstatSync(fd).size) ?? 0 }

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

  #tell (line: string): void {
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
