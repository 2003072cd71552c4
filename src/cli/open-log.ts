import type { LogConfig } from '../runtime/config-schema.ts'
import { createLogger, type Logger } from '../runtime/logger.ts'

/** The log that a configuration of server or agent asks for. */
export function openLog ({ logLevel, logFile, logFormat, logSourceLocation }: LogConfig): Logger {
  return createLogger({ level: logLevel, file: logFile, format: logFormat, sourceLocation: logSourceLocation })
}
