import type { CommandGroup } from '../command.ts'

export const agentCommands: CommandGroup = {
  summary: 'Run and check a node agent; see and remove attested agents',
  commands: {
    run: {
      summary: 'Run the node agent until SIGINT or SIGTERM',
      load: async () => (await import('./agent-run.ts')).agentRun
    },
    healthcheck: {
      summary: 'Ask a running agent whether it is healthy',
      load: async () => (await import('./agent-healthcheck.ts')).agentHealthcheck
    },
    validate: {
      summary: 'Check an agent configuration without running it',
      load: async () => (await import('./agent-validate.ts')).agentValidate
    },
    logger: {
      summary: 'See and change what a running agent logs',
      commands: {
        get: {
          summary: 'Show the level',
          load: async () => (await import('../logger/agent-logger.ts')).agentLoggerGet
        },
        set: {
          summary: 'Change the level until the agent ends',
          load: async () => (await import('../logger/agent-logger.ts')).agentLoggerSet
        },
        reset: {
          summary: 'Go back to the level it began with',
          load: async () => (await import('../logger/agent-logger.ts')).agentLoggerReset
        }
      }
    },
    debug: {
      summary: 'Counts of a running agent, and its own certificates',
      commands: {
        getinfo: {
          summary: 'Show them',
          load: async () => (await import('../debug/agent-debug.ts')).agentDebugInfo
        }
      }
    },
    list: {
      summary: 'List attested agents',
      load: async () => (await import('./agent-list.ts')).agentList
    },
    show: {
      summary: 'Show one attested agent with its selectors',
      load: async () => (await import('./agent-show.ts')).agentShow
    },
    count: {
      summary: 'Count attested agents',
      load: async () => (await import('./agent-count.ts')).agentCount
    },
    ban: {
      summary: 'Refuse an agent for good, until it is evicted',
      load: async () => (await import('./agent-ban.ts')).agentBan
    },
    evict: {
      summary: 'Forget an agent: it must attest again',
      load: async () => (await import('./agent-evict.ts')).agentEvict
    },
    purge: {
      summary: 'Evict agents that expired long ago',
      load: async () => (await import('./agent-purge.ts')).agentPurge
    }
  }
}
