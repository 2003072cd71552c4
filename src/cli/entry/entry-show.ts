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
import { formatEntry, idText } from './format-entry.ts'
import type { Entry } from '../../wire/generated/types.ts'

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
    // As SPIRE's program has it; ours lists in the order of their making.
    if (terminal.program !== 'assay') entries.sort(bySpiffeId)
    if (flags.output === 'json') terminal.out(`${formatJson({ entries, nextPageToken: '' })}\n`)
    else terminal.out(`Found ${counted(entries.length, 'entry', 'entries')}\n${entries.map(formatEntry).join('')}`)
    return 0
  }
})

function bySpiffeId (a: Entry, b: Entry): number {
  return compare(idText(a.spiffeId), idText(b.spiffeId)) || compare(idText(a.parentId), idText(b.parentId)) ||
    a.x509SvidTtl - b.x509SvidTtl || a.jwtSvidTtl - b.jwtSvidTtl
}

function compare (a: string, b: string): number { return a < b ? -1 : a > b ? 1 : 0 }
