import type { CommandGroup } from '../command.ts'

export const serviceCommands: CommandGroup = {
  summary: 'Services: what callers name, and who is behind it',
  commands: {
    create: {
      summary: 'Create services',
      load: async () => (await import('./service-create.ts')).serviceCreate
    },
    list: {
      summary: 'List services',
      load: async () => (await import('./service-list.ts')).serviceList
    },
    show: {
      summary: 'Show one service with its endpoints and the agents that can call it',
      load: async () => (await import('./service-show.ts')).serviceShow
    },
    update: {
      summary: 'Replace services',
      load: async () => (await import('./service-update.ts')).serviceUpdate
    },
    delete: {
      summary: 'Delete services',
      load: async () => (await import('./service-delete.ts')).serviceDelete
    }
  }
}
