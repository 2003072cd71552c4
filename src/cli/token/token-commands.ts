import type { CommandGroup } from '../command.ts'

export const tokenCommands: CommandGroup = {
  summary: 'Make join tokens',
  commands: {
    generate: {
      summary: 'Make a one-use token that attests one node',
      load: async () => (await import('./token-generate.ts')).tokenGenerate
    }
  }
}
