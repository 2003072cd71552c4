import { entryService } from '../../wire/generated/server-entry.ts'
import { defineCommand } from '../command.ts'
import { beginWait } from '../convergence/wait.ts'
import { switchFlag } from '../flag.ts'
import { usage } from '../parse-flags.ts'
import { withServers } from '../servers.ts'
import { inBatches, tellResults } from './entry-batch.ts'
import { entryFlags, entryOfFlags, refuseBesideData } from './entry-flags.ts'

export const entryCreate = defineCommand({
  flags: { ...entryFlags, node: switchFlag('an alias for nodes: agents whose selectors match get this ID as a further parent') },
  details: 'A -data file holds {"entries": [{"spiffe_id", "parent_id", "selectors": [{"type", "value"}], …}]}.',
  examples: [
    'assay entry create -spiffeID spiffe://example.org/web -parentID spiffe://example.org/node-1 -selector unix:uid:1000',
    'assay entry create -node -spiffeID spiffe://example.org/rack-7 -selector x509pop:subject:cn:rack-7',
    'assay entry create -data entries.json --output json',
    'assay entry create -data entries.json --wait --wait-timeout 1m'
  ],
  async run (call) {
    const { flags, terminal } = call
    if (flags.data !== undefined) refuseBesideData(flags)
    if (flags.data !== undefined && flags.node) throw usage('-node and -data exclude each other')
    const entries = flags.data === undefined
      ? [entryOfFlags(flags, flags.node)]
      : await (await import('./entry-data.ts')).readEntryData(flags.data, terminal)
    return withServers(call, async servers => {
      const wait = await beginWait(call, servers)
      const results = await inBatches(entries, terminal, async batch => servers.change(async channel =>
        (await channel.client(entryService).batchCreateEntry({ entries: batch }, { signal: terminal.signal })).results))
      return tellResults(call, { verb: 'create', asked: entries, results }, wait)
    })
  }
})
