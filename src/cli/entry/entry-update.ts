import type { Channel } from '../../rpc/channel.ts'
import { entryService } from '../../wire/generated/server-entry.ts'
import type { EntryInit } from '../../wire/generated/types.ts'
import { defineCommand } from '../command.ts'
import { beginWait } from '../convergence/wait.ts'
import { usage } from '../parse-flags.ts'
import { withServers } from '../servers.ts'
import { inBatches, tellResults } from './entry-batch.ts'
import { entryFlags, entryOfFlags, refuseBesideData } from './entry-flags.ts'

export const entryUpdate = defineCommand({
  flags: entryFlags,
  details: 'The entry becomes what the flags say: what is not given falls back to its default, except for the additional attributes\n' +
    '(-disableX509SVIDPrefetch, -jwtSVIDIncludeJTI), which stay as they are.',
  examples: [
    'assay entry update -entryID 6c2e… -spiffeID spiffe://example.org/web -parentID spiffe://example.org/node -selector unix:uid:1001',
    'assay entry update -data entries.json --wait'
  ],
  async run (call) {
    const { flags, terminal } = call
    if (flags.data !== undefined) refuseBesideData(flags)
    const entries = flags.data === undefined
      ? [entryOfFlags(flags, false)]
      : await (await import('./entry-data.ts')).readEntryData(flags.data, terminal)
    const unnamed = entries.findIndex(({ id }) => id === undefined || id === '')
    if (unnamed >= 0) throw usage(flags.data === undefined ? 'entry ID is required' : `entries.${unnamed}.entry_id is required`)
    return withServers(call, async servers => {
      const wait = await beginWait(call, servers)
      const merged: EntryInit[] = []
      for (const entry of entries) merged.push(await servers.ask(channel => mergeAttributes(channel, entry, terminal.signal)))
      const results = await inBatches(merged, terminal, async batch => servers.change(async channel =>
        (await channel.client(entryService).batchUpdateEntry({ entries: batch }, { signal: terminal.signal })).results))
      return tellResults(call, { verb: 'update', asked: entries, results }, wait)
    })
  }
})

/** Additional attributes that are not given keep their stored values. */
async function mergeAttributes (channel: Channel, entry: EntryInit, signal: AbortSignal): Promise<EntryInit> {
  const given = entry.additionalAttributes
  if (given?.disableX509SvidPrefetch !== undefined && given.jwtSvidIncludeJti !== undefined) return entry
  const request = { id: entry.id, outputMask: { additionalAttributes: true } }
  const stored = await channel.client(entryService).getEntry(request, { signal }).catch((error: unknown) => {
    if ((error as { status?: string }).status === 'NOT_FOUND') return undefined
    throw error
  })
  return {
    ...entry,
    additionalAttributes: {
      disableX509SvidPrefetch: given?.disableX509SvidPrefetch ?? stored?.additionalAttributes?.disableX509SvidPrefetch,
      jwtSvidIncludeJti: given?.jwtSvidIncludeJti ?? stored?.additionalAttributes?.jwtSvidIncludeJti
    }
  }
}
