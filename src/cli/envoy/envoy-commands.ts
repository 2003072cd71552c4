import type { CommandGroup } from '../command.ts'

export const envoyCommands: CommandGroup = {
  summary: 'Configuration for the node\'s Envoy',
  commands: {
    bootstrap: {
      summary: 'Print what an Envoy is started with that takes everything else from the agent',
      load: async () => (await import('./envoy-bootstrap.ts')).envoyBootstrapCommand
    }
  }
}
