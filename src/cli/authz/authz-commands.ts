import type { CommandGroup } from '../command.ts'

export const authzCommands: CommandGroup = {
  summary: 'The authorization layer by itself, for any Envoy or service',
  commands: {
    serve: {
      summary: 'Decide by policies in files until SIGINT or SIGTERM',
      load: async () => (await import('./authz-serve.ts')).authzServe
    }
  }
}
