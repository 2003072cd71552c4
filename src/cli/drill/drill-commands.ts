import type { CommandGroup } from '../command.ts'

export const drillCommands: CommandGroup = {
  summary: 'Rehearse, on purpose, what else happens at night',
  commands: {
    failover: {
      summary: 'Have each replica stand aside in turn, and measure how the others take over',
      load: async () => (await import('./drill-failover.ts')).drillFailover
    }
  }
}
