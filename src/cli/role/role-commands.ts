import type { CommandGroup } from '../command.ts'

export const roleCommands: CommandGroup = {
  summary: 'Who may administer: the roles of a server\'s configuration',
  commands: {
    list: {
      summary: 'List roles with who holds them and what they grant',
      load: async () => (await import('./role-list.ts')).roleList
    },
    check: {
      summary: 'Tell what an ID or a user may do, and why not',
      load: async () => (await import('./role-check.ts')).roleCheck
    }
  }
}
