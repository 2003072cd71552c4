import { type Logger, type LogLevel, setLogLevel } from '../runtime/logger.ts'
import { SpiffeError } from '../spiffe/errors.ts'
import type { LoggerHandlers } from '../wire/generated/agent-logger.ts'
import { type LoggerInit, LogLevel as levels } from '../wire/generated/types.ts'
import type { CallContext } from './call.ts'

/** What has no number of its own is not logged less finely than asked: SPIRE's panics are fatal here. */
const byNumber = new Map<number, LogLevel>([
  [levels.PANIC, 'fatal'], [levels.FATAL, 'fatal'], [levels.ERROR, 'error'], [levels.WARN, 'warn'], [levels.INFO, 'info'],
  [levels.DEBUG, 'debug'], [levels.TRACE, 'trace']
])
const byName = new Map([...byNumber].map(([number, level]) => [level, number]))

/** SPIRE's Logger API, of agents and servers alike: what is logged, changed while the process runs and until it ends. */
export function logLevelHandlers (log: Logger): LoggerHandlers<CallContext> {
  const launchLevel = log.level as LogLevel
  const answer = (): LoggerInit => ({ currentLevel: numberOf(log.level as LogLevel), launchLevel: numberOf(launchLevel) })
  return {
    async getLogger () { return answer() },
    async setLogLevel ({ newLevel }) {
      if (newLevel === levels.UNSPECIFIED) throw new SpiffeError('argument_invalid', 'newLevel value cannot be LogLevel_UNSPECIFIED')
      const level = byNumber.get(newLevel)
      if (level === undefined) throw new SpiffeError('argument_invalid', 'unsupported log level')
      setLogLevel(log, level)
      log.info({ level }, 'log level changed')
      return answer()
    },
    async resetLogLevel () {
      setLogLevel(log, launchLevel)
      log.info({ level: launchLevel }, 'log level reset')
      return answer()
    }
  }
}

function numberOf (level: LogLevel): number { return byName.get(level) ?? levels.UNSPECIFIED }
