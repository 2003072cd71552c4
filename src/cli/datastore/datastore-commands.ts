import type { CommandGroup } from '../command.ts'

export const datastoreCommands: CommandGroup = {
  summary: 'Back up, restore and move the server\'s database',
  commands: {
    backup: {
      summary: 'Write one state of the database to a file',
      load: async () => (await import('./datastore-backup.ts')).datastoreBackup
    },
    restore: {
      summary: 'Put a backup in place of what the database holds',
      load: async () => (await import('./datastore-restore.ts')).datastoreRestore
    },
    inspect: {
      summary: 'Tell what a backup holds, and whether it is intact',
      load: async () => (await import('./datastore-inspect.ts')).datastoreInspect
    },
    migrate: {
      summary: 'Move into an empty database, SQLite or PostgreSQL',
      load: async () => (await import('./datastore-migrate.ts')).datastoreMigrate
    },
    'new-epoch': {
      summary: 'Begin the log anew after other tools have set the database back',
      load: async () => (await import('./datastore-new-epoch.ts')).datastoreNewEpoch
    }
  }
}
