import { pino } from 'pino'
import type { Logger } from '../../src/runtime/logger.ts'

export type LogLine = Readonly<Record<string, unknown>>

/** A logger whose lines a test can read. */
export function capturedLog (): { log: Logger, lines: LogLine[] } {
  const lines: LogLine[] = []
  const log = pino({ level: 'trace', base: null, formatters: { level: label => ({ level: label }) } },
    { write: (text: string) => { lines.push(JSON.parse(text) as LogLine) } })
  return { log, lines }
}
