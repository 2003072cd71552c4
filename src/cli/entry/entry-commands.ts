import type { CommandGroup } from '../command.ts'

export const entryCommands: CommandGroup = {
  summary: 'Registration entries: which workload gets which SPIFFE ID',
  commands: {
    create: {
      summary: 'Create entries',
      load: async () => (await import('./entry-create.ts')).entryCreate
    },
    show: {
      summary: 'Show entries',
      load: async () => (await import('./entry-show.ts')).entryShow
    },
    update: {
      summary: 'Replace entries',
      load: async () => (await import('./entry-update.ts')).entryUpdate
    },
    delete: {
      summary: 'Delete entries',
      load: async () => (await import('./entry-delete.ts')).entryDelete
    },
    count: {
      summary: 'Count entries',
      load: async () => (await import('./entry-count.ts')).entryCount
    }
  }
}
