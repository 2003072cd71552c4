import { closeSync, openSync } from 'node:fs'
import { dirname, relative } from 'node:path'
import { pino, type Logger as PinoLogger } from 'pino'
import { formatTextLine } from './log-text.ts'

export type Logger = PinoLogger
export type LogLevel = 'fatal' | 'error' | 'warn' | 'info' | 'debug' | 'trace' | 'silent'
export type LogFormat = 'json' | 'text'

/** Names under which secrets could be handed to the logger by mistake; the values never reach a log. */
const secretKeys = ['privateKey', 'private_key', 'token', 'joinToken', 'join_token', 'svidKey', 'password', 'authorization', 'secret']

export interface LoggerOptions {
  readonly level: LogLevel
  /** A path to append to; standard error when absent. */
  readonly file?: string | undefined
  /** `json` by default. */
  readonly format?: LogFormat
  /** Adds the file and line that logged as `source`, below `src/`; costs a stack trace per line. */
  readonly sourceLocation?: boolean
}

/** Bytes that wait for a full disk; of later lines only their number is told. */
const longestWaiting = 1024 * 1024

/** Structured lines, written synchronously so that a crash loses nothing. What cannot be written ends no process: it waits, or is lost. */
export function createLogger ({ level, file, format = 'json', sourceLocation = false }: LoggerOptions): Logger {
  const lines = pino.destination({
    sync: true, maxLength: longestWaiting,
    ...file === undefined ? { fd: 2 } : { dest: file, append: true, mkdir: true, mode: logFileMode }
  })
  const family: Family = { children: new Set(), sweptAt: 0 }
  const logger = pino({
    level,
    onChild: child => adopt(family, child),
    base: null,
    timestamp: () => `,"time":"${new Date().toISOString()}"`,
    formatters: { level: label => ({ level: label }) },
    redact: { paths: [...secretKeys, ...secretKeys.map(key => `*.${key}`)], censor: '[secret]' },
    ...sourceLocation ? { mixin: () => ({ source: sourceOf(new Error('where').stack ?? '') }) } : {}
  }, format === 'json' ? lines : { write: line => lines.write(formatTextLine(line)) })
  families.set(logger, family)
  let lost = 0
  // There is nobody whom it could be told.
  lines.on('error', () => {})
  lines.on('drop', () => { lost++ })
  lines.on('drain', () => {
    const count = lost
    lost = 0
    if (count > 0) logger.error({ lines: count }, 'lines of the log are lost: they could not be written')
  })
  if (file !== undefined) {
    reopeners.set(logger, () => {
      // What cannot be opened fails here, while the file of before is still written to.
      closeSync(openSync(file, 'a', logFileMode))
      lines.reopen()
    })
  }
  return logger
}

/** As SPIRE's: its group may read it, as those who collect logs do. */
const logFileMode = 0o640
const reopeners = new WeakMap<PinoLogger, () => void>()

/**
 * Opens the log's file anew under its name, after somebody has moved it aside; until that succeeds lines go where they went.
 * @returns whether the log is a file
 * @throws the system's error
 */
export function reopenLog (logger: Logger): boolean {
  const reopen = reopeners.get(logger)
  reopen?.()
  return reopen !== undefined
}

/** The loggers that came from one: each keeps a level of its own. Most live no longer than a call. */
interface Family { readonly children: Set<WeakRef<PinoLogger>>, sweptAt: number }

const families = new WeakMap<PinoLogger, Family>()
const sweepAfter = 1_000

function adopt (family: Family, child: PinoLogger): void {
  family.children.add(new WeakRef(child))
  if (family.children.size < family.sweptAt * 2 + sweepAfter) return
  for (const reference of family.children) if (reference.deref() === undefined) family.children.delete(reference)
  family.sweptAt = family.children.size
}

/** Changes what is logged from now on, by this logger and all that came from it. */
export function setLogLevel (logger: Logger, level: LogLevel): void {
  logger.level = level
  for (const child of families.get(logger)?.children ?? []) {
    const living = child.deref()
    if (living !== undefined) living.level = level
  }
}

const sources = dirname(import.meta.dirname)

/** `agent/agent.ts:42`: the first frame that is neither the logger's nor a package's. */
function sourceOf (stack: string): string | undefined {
  const frame = stack.split('\n').slice(1).find(line => !line.includes(import.meta.filename) && !line.includes('/node_modules/'))
  const [, path, line] = /(?:file:\/\/|[( ])(\/[^()]*):(\d+):\d+\)?$/.exec(frame ?? '') ?? []
  return path === undefined ? undefined : `${relative(sources, path)}:${line}`
}

/** For tests and for callers that want silence. */
export const silentLogger: Logger = pino({ level: 'silent' })
