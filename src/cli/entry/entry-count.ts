import { entryService } from '../../wire/generated/server-entry.ts'
import { withServer } from '../channel-call.ts'
import { defineCommand } from '../command.ts'
import { formatJson } from '../json-output.ts'
import { counted } from '../pretty.ts'
import { outputFlag, serverFlags } from '../socket-path.ts'
import { entryFilterFlags, entryFilterOf } from './entry-filter.ts'

export const entryCount = defineCommand({
  flags: { ...entryFilterFlags, ...serverFlags, output: outputFlag },
  examples: ['assay entry count', 'assay entry count -parentID spiffe://example.org/node'],
  async run (call) {
    const { flags, terminal } = call
    const { count } = await withServer(call, channel =>
      channel.client(entryService).countEntries({ filter: entryFilterOf(flags) }, { signal: terminal.signal }))
    const text = flags.output === 'json' ? formatJson({ count }) : counted(count, 'registration entry', 'registration entries')
    terminal.out(`${text}\n`)
    return 0
  }
})
