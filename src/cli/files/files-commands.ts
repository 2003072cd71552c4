import type { CommandGroup } from '../command.ts'

export const filesCommands: CommandGroup = {
  summary: 'Files for programs that know only files: SVIDs, keys, bundles, and reloads',
  commands: {
    run: {
      summary: 'Keep files up to date, and the program that reads them, until SIGINT or SIGTERM',
      load: async () => (await import('./files-run.ts')).filesRun
    },
    fetch: {
      summary: 'Write the files once',
      load: async () => (await import('./files-fetch.ts')).filesFetch
    },
    validate: {
      summary: 'Check a configuration without writing anything',
      load: async () => (await import('./files-validate.ts')).filesValidate
    }
  }
}
