import { z } from 'zod'
import { formatDuration, parseDuration } from './duration.ts'
import type { LogFormat, LogLevel } from './logger.ts'

/** Pieces of configuration that servers and agents share. Key names are SPIRE's. */

const notDuration = 'must be a duration such as "1h", "5m" or "200ms"'

/** `1h`, `5m`, `200ms`; the value is in seconds and may have a fraction. */
export function durationSeconds (minimumMs: number) {
  return z.string(notDuration).transform((text, context) => {
    const ms = parseDuration(text)
    if (ms !== undefined && ms >= minimumMs) return ms / 1_000
    context.addIssue(ms === undefined ? notDuration : `must be at least ${formatDuration(minimumMs)}`)
    return z.NEVER
  })
}

/** Whole seconds, at least one. */
export const wholeSeconds = durationSeconds(1_000).refine(Number.isInteger, 'must be whole seconds')

/** A text that a parser of the domain accepts; the parser's message becomes the rule. */
export function parsedBy<T> (parse: (text: string) => T) {
  return z.string().transform((text, context) => {
    try {
      return parse(text)
    } catch (error) {
      context.addIssue((error as Error).message)
      return z.NEVER
    }
  })
}

/**
 * A key that others have and we do not: refused by its name with the reason, never passed over.
 * @param soAnyway values, as text, that ask for what is so without it; a list without items is the empty text
 */
export function notOffered (reason: string, soAnyway: readonly string[] = []) {
  return z.unknown().transform((value, context): undefined => {
    const written = Array.isArray(value) && value.length === 0 ? '' : value
    if (value === undefined || soAnyway.some(so => so === written || so === JSON.stringify(written))) return undefined
    context.addIssue(`is not offered: ${reason}`)
    return z.NEVER
  }).optional()
}

export const text = z.string().min(1, 'must not be empty')
/** As SPIRE has it, empty is as good as absent. */
export const optionalText = z.string().optional().transform(value => value === '' ? undefined : value)
/** ISO 8601 in UTC, as we write it. */
export const instant = z.iso.datetime().transform(text => new Date(text))
/** 0 lets the system choose. */
export const port = z.int().min(0, 'must be 0 to 65535').max(65_535, 'must be 0 to 65535')

/** `host:port`, with an IPv6 address in brackets. */
export const hostPort = z.string().transform((address, context): ListenAddress => {
  const [, ipv6, host, port] = /^(?:\[([0-9A-Fa-f:.]+)\]|([^:\s[\]]+)):(\d{1,5})$/.exec(address) ?? []
  if (Number(port) <= 65_535) return { host: ipv6 ?? host ?? '', port: Number(port) }
  context.addIssue('must be host:port, or [IPv6 address]:port')
  return z.NEVER
})

const levels: Readonly<Record<string, LogLevel>> = {
  panic: 'fatal', fatal: 'fatal', error: 'error', warn: 'warn', warning: 'warn', info: 'info', debug: 'debug', trace: 'trace'
}

/** SPIRE's level names in any case. */
export const logLevel = z.string().transform((name, context) => {
  const level = Object.hasOwn(levels, name.toLowerCase()) ? levels[name.toLowerCase()] : undefined
  if (level !== undefined) return level
  context.addIssue(`must be one of ${Object.keys(levels).join(', ').toUpperCase()}`)
  return z.NEVER
})

/** SPIRE's names, in any case. */
export const logFormat = z.string().transform((name, context): LogFormat => {
  const format = name.toLowerCase()
  if (format === 'json' || format === 'text') return format
  context.addIssue('must be one of json, text')
  return z.NEVER
})

/** What a configuration says about the log, as `createLogger` takes it. */
export interface LogConfig {
  readonly logLevel: LogLevel
  readonly logFile: string | undefined
  readonly logFormat: LogFormat
  readonly logSourceLocation: boolean
}

export interface ListenAddress { readonly host: string, readonly port: number }

export interface HealthChecks extends ListenAddress {
  readonly livePath: string
  readonly readyPath: string
}

const urlPath = z.string().regex(/^\/[\w./-]*$/, 'must be a path such as /live')

/** Off unless `listener_enabled`. */
export const healthChecksSchema = z.strictObject({
  listener_enabled: z.boolean().default(false),
  bind_address: text.default('localhost'),
  bind_port: port.default(80),
  live_path: urlPath.default('/live'),
  ready_path: urlPath.default('/ready')
}).transform(({ listener_enabled: enabled, bind_address: host, bind_port: port, live_path: livePath, ready_path: readyPath }) =>
  enabled ? { host, port, livePath, readyPath } satisfies HealthChecks : undefined)
