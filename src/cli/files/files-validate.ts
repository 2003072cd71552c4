import { defineCommand } from '../command.ts'
import { filesConfigFlags, readFilesConfig } from './files-config-flags.ts'

export const filesValidate = defineCommand({
  flags: filesConfigFlags,
  details: 'Reads the configuration alone: neither the agent nor the folder is looked at.',
  examples: ['assay files validate -config helper.conf'],
  async run ({ flags, terminal }) {
    const { warnings } = await readFilesConfig(flags, terminal)
    for (const warning of warnings) terminal.err(`Warning: ${warning}\n`)
    terminal.out('Assay files configuration is valid.\n')
    return 0
  }
})
