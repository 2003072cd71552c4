import type { CommandGroup } from './command.ts'

/** What can be asked of a server or an agent that runs, and changed until it ends. */

export const serverLogger: CommandGroup = {
  summary: 'See and change what a running server logs',
  commands: {
    get: {
      summary: 'Show the level',
      load: async () => (await import('./logger/server-logger.ts')).serverLoggerGet
    },
    set: {
      summary: 'Change the level until the server ends',
      load: async () => (await import('./logger/server-logger.ts')).serverLoggerSet
    },
    reset: {
      summary: 'Go back to the level it began with',
      load: async () => (await import('./logger/server-logger.ts')).serverLoggerReset
    }
  }
}

export const serverDebug: CommandGroup = {
  summary: 'Counts of a running server, and its own certificates',
  commands: {
    getinfo: {
      summary: 'Show them',
      load: async () => (await import('./debug/server-debug.ts')).serverDebugInfo
    }
  }
}

export const agentLogger: CommandGroup = {
  summary: 'See and change what a running agent logs',
  commands: {
    get: {
      summary: 'Show the level',
      load: async () => (await import('./logger/agent-logger.ts')).agentLoggerGet
    },
    set: {
      summary: 'Change the level until the agent ends',
      load: async () => (await import('./logger/agent-logger.ts')).agentLoggerSet
    },
    reset: {
      summary: 'Go back to the level it began with',
      load: async () => (await import('./logger/agent-logger.ts')).agentLoggerReset
    }
  }
}

export const agentDebug: CommandGroup = {
  summary: 'Counts of a running agent, and its own certificates',
  commands: {
    getinfo: {
      summary: 'Show them',
      load: async () => (await import('./debug/agent-debug.ts')).agentDebugInfo
    }
  }
}
