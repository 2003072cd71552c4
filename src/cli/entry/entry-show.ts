import { entryService } from '../../wire/generated/server-entry.ts'
import { withServer } from '../channel-call.ts'
import { defineCommand } from '../command.ts'
import { textFlag } from '../flag.ts'
import { formatJson } from '../json-output.ts'
import { allPages, pageSize } from '../paged.ts'
import { usage } from '../parse-flags.ts'
import { counted } from '../pretty.ts'
import { outputFlag, serverFlags } from '../socket-path.ts'
import { entryFilterFlags, entryFilterOf } from './entry-filter.ts'
import { formatEntry } from './format-entry.ts'

export const entryShow = defineCommand({
  flags: {
    entryID: textFlag('the one entry with this ID', { placeholder: 'ID' }),
    ...entryFilterFlags,
    ...serverFlags,
    output: outputFlag
  },
  examples: [
    'assay entry show',
    'assay entry show -spiffeID spiffe://example.org/web',
    'assay entry show -selector unix:uid:1000 -matchSelectorsOn exact --output json'
  ],
  async run (call) {
    const { flags, terminal } = call
    const filter = entryFilterOf(flags)
    if (flags.entryID !== undefined && Object.values(filter).some(value => value !== undefined)) {
      throw usage('the -entryID flag can\'t be combined with others')
    }
    const entries = await withServer(call, async channel => {
      const client = channel.client(entryService)
      const { signal } = terminal
      if (flags.entryID !== undefined) return [await client.getEntry({ id: flags.entryID }, { signal })]
      return allPages(terminal, 'entries', async pageToken => {
        const { entries: items, nextPageToken } = await client.listEntries({ filter, pageSize, pageToken }, { signal })
        return { items, nextPageToken }
      })
    })
    if (flags.output === 'json') terminal.out(`${formatJson({ entries, nextPageToken: '' })}\n`)
    else terminal.out(`Found ${counted(entries.length, 'entry', 'entries')}\n${entries.map(formatEntry).join('')}`)
    return 0
  }
})
