import { pino, type Logger as PinoLogger } from 'pino'

export type Logger = PinoLogger
export const logLevels = ['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'] as const
export type LogLevel = typeof logLevels[number]

/** Names under which secrets could be handed to the logger by mistake; the values never reach a log. */
const secretKeys = ['privateKey', 'private_key', 'token', 'joinToken', 'join_token', 'svidKey', 'password', 'authorization', 'secret']

export interface LoggerOptions {
  readonly level: LogLevel
  /** A path to append to; standard error when absent. */
  readonly file?: string | undefined
}

/** Structured JSON lines, written synchronously so that a crash loses nothing. */
export function createLogger ({ level, file }: LoggerOptions): Logger {
  return pino({
    level,
    base: null,
    timestamp: () => `,"time":"${new Date().toISOString()}"`,
    formatters: { level: label => ({ level: label }) },
    redact: { paths: [...secretKeys, ...secretKeys.map(key => `*.${key}`)], censor: '[secret]' }
  }, pino.destination(file === undefined ? { fd: 2, sync: true } : { dest: file, append: true, mkdir: true, sync: true }))
}

/** For tests and for callers that want silence. */
export const silentLogger: Logger = pino({ level: 'silent' })
