import type { CommandGroup } from '../command.ts'

export const serverCommands: CommandGroup = {
  summary: 'Run and check a server',
  commands: {
    run: {
      summary: 'Run the server until SIGINT or SIGTERM',
      load: async () => (await import('./server-run.ts')).serverRun
    },
    healthcheck: {
      summary: 'Ask a running server whether it is healthy',
      load: async () => (await import('./server-healthcheck.ts')).serverHealthcheck
    },
    status: {
      summary: 'Show the replicas, who does the chores, and the authorities',
      load: async () => (await import('./server-status.ts')).serverStatus
    },
    validate: {
      summary: 'Check a server configuration without running it',
      load: async () => (await import('./server-validate.ts')).serverValidate
    },
    logger: {
      summary: 'See and change what a running server logs',
      commands: {
        get: {
          summary: 'Show the level',
          load: async () => (await import('../logger/server-logger.ts')).serverLoggerGet
        },
        set: {
          summary: 'Change the level until the server ends',
          load: async () => (await import('../logger/server-logger.ts')).serverLoggerSet
        },
        reset: {
          summary: 'Go back to the level it began with',
          load: async () => (await import('../logger/server-logger.ts')).serverLoggerReset
        }
      }
    },
    debug: {
      summary: 'Counts of a running server, and its own certificates',
      commands: {
        getinfo: {
          summary: 'Show them',
          load: async () => (await import('../debug/server-debug.ts')).serverDebugInfo
        }
      }
    }
  }
}
