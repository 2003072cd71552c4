import { StringDecoder } from 'node:string_decoder'
import type { Logger } from '../runtime/logger.ts'

/** Of one line in the log; what is longer is cut there. */
const mostLineLength = 16 * 1024
/** Of what a plugin logs beside a message. */
const mostFields = 64

/** Cuts a stream of bytes into lines. Nothing is kept beyond the longest line: the rest of one that is longer is dropped. */
export class LineReader {
  readonly #decoder = new StringDecoder('utf8')
  readonly #most: number
  readonly #onLine: (line: string) => void
  #line = ''

  constructor (onLine: (line: string) => void, most = mostLineLength) {
    this.#onLine = onLine
    this.#most = most
  }

  /** Length of the line that has no end yet. */
  get begun (): number { return this.#line.length }

  write (bytes: Uint8Array): void {
    const [first = '', ...others] = this.#decoder.write(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)).split('\n')
    this.#add(first)
    for (const part of others) {
      this.#flush()
      this.#add(part)
    }
  }

  /** What comes last need not end its line. */
  end (): void { if (this.#line !== '') this.#flush() }

  #add (part: string): void { this.#line += part.slice(0, this.#most - this.#line.length) }

  #flush (): void {
    const line = this.#line
    this.#line = ''
    this.#onLine(line)
  }
}

const levels: Readonly<Record<string, 'trace' | 'debug' | 'info' | 'warn' | 'error'>> = {
  trace: 'trace', debug: 'debug', info: 'info', warn: 'warn', error: 'error'
}

/**
 * Passes on what a plugin writes to standard error: lines of hclog's JSON at their level, everything else at `debug`, and what a Go program
 * says as it dies at `error`. What comes beside a message is under `fields`, where the names of secrets are known.
 */
export function pluginLog (log: Logger): (line: string) => void {
  let dying = false
  return line => {
    if (line === '') return
    const entry = readEntry(line)
    if (entry !== undefined) {
      const { level, message, fields } = entry
      log[level](Object.keys(fields).length === 0 ? {} : { fields }, `plugin: ${message}`)
      return
    }
    dying ||= line.startsWith('panic: ') || line.startsWith('fatal error: ')
    log[dying ? 'error' : 'debug']({ line }, 'plugin wrote')
  }
}

function readEntry (line: string) {
  if (!line.startsWith('{')) return undefined
  let raw: unknown
  try {
    raw = JSON.parse(line)
  } catch {
    return undefined
  }
  const { '@message': message, '@level': level, '@timestamp': _timestamp, '@module': module, ...rest } = raw as Record<string, unknown>
  const known = typeof level === 'string' ? levels[level] : undefined
  if (typeof message !== 'string' || known === undefined) return undefined
  const all = module === undefined ? rest : { module, ...rest }
  return { level: known, message, fields: Object.fromEntries(Object.entries(all).slice(0, mostFields)) }
}
