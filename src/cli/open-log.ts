import type { LogConfig } from '../runtime/config-schema.ts'
import { createLogger, reopenLog, type Logger } from '../runtime/logger.ts'

/**
 * The log that a configuration asks for. Until the signal aborts, SIGUSR2 opens its file anew, for who rotates it; a log that is no file
 * goes on.
 */
export function openLog ({ logLevel, logFile, logFormat, logSourceLocation }: LogConfig, signal: AbortSignal): Logger {
  const log = createLogger({ level: logLevel, file: logFile, format: logFormat, sourceLocation: logSourceLocation })
  const rotate = () => {
    try {
      if (reopenLog(log)) log.info('the log\'s file was opened anew')
    } catch (error) {
      log.error({ err: error }, 'the log\'s file cannot be opened anew; lines go where they went')
    }
  }
  process.on('SIGUSR2', rotate)
  signal.addEventListener('abort', () => process.off('SIGUSR2', rotate), { once: true })
  return log
}
