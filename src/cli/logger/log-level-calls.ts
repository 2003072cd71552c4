import type { Channel } from '../../rpc/channel.ts'
import { loggerService as agentLogger } from '../../wire/generated/agent-logger.ts'
import { loggerService as serverLogger } from '../../wire/generated/server-logger.ts'
import { type Logger, LogLevel } from '../../wire/generated/types.ts'
import type { ExitCode } from '../command.ts'
import { formatJson } from '../json-output.ts'
import type { Terminal } from '../terminal.ts'

export const levels = ['panic', 'fatal', 'error', 'warn', 'info', 'debug', 'trace'] as const
export type Level = typeof levels[number]

/** What is to be done to the level; nothing is to have it told. */
export type LevelChange = { readonly to: Level } | 'reset' | undefined

export async function askLogger (
  channel: Channel, whose: 'server' | 'agent', change: LevelChange, { signal }: Terminal
): Promise<Logger> {
  const client = whose === 'server' ? channel.client(serverLogger) : channel.client(agentLogger)
  if (change === undefined) return await client.getLogger({}, { signal })
  if (change === 'reset') return await client.resetLogLevel({}, { signal })
  return await client.setLogLevel({ newLevel: LogLevel[change.to.toUpperCase() as Uppercase<Level>] }, { signal })
}

/** As SPIRE tells it. */
export function tellLogger ({ currentLevel, launchLevel }: Logger, output: 'pretty' | 'json', terminal: Terminal): ExitCode {
  const nameOf = (level: number) => Object.entries(LogLevel).find(([, number]) => number === level)?.[0] ?? 'UNSPECIFIED'
  if (output === 'json') {
    terminal.out(`${formatJson({ currentLevel: nameOf(currentLevel), launchLevel: nameOf(launchLevel) })}\n`)
  } else {
    // Logrus, which SPIRE logs by, calls it so.
    const shown = (level: number) => nameOf(level).toLowerCase().replace(/^warn$/, 'warning')
    terminal.out(`Logger Level : ${shown(currentLevel)}\nLaunch Level : ${shown(launchLevel)}\n\n`)
  }
  return 0
}
