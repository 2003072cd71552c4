import type { Entry } from '../spiffe/entry.ts'
import { SpiffeError } from '../spiffe/errors.ts'
import type { SpiffeId } from '../spiffe/spiffe-id.ts'
import type { Logger } from '../runtime/logger.ts'
import type { CallOptions, ClientOf } from '../rpc/channel.ts'
import { agentEntryMask } from '../wire/entry-codec.ts'
import type { entryService, EntryRevision, SyncAuthorizedEntriesRequestInit } from '../wire/generated/server-entry.ts'
import type { Entry as EntryMessage } from '../wire/generated/types.ts'
import { Mailbox } from '../runtime/mailbox.ts'
import { readEntry } from './read-entry.ts'

/**
 * Synchronises the agent's entries: up to 500 arrive whole; of more, the server sends revisions first and the agent asks for those
 * it does not have. Entries that cannot be read are left out with a warning.
 * @param known by id, from the last time
 * @returns all entries; unchanged ones are the same objects as in `known`
 */
export async function syncEntries (
  client: ClientOf<typeof entryService.methods>, known: ReadonlyMap<string, Entry>, agentId: SpiffeId, log: Logger, options: CallOptions
): Promise<Entry[]> {
  const requests = new Mailbox<SyncAuthorizedEntriesRequestInit>()
  requests.put({ outputMask: agentEntryMask })
  const answers = client.syncAuthorizedEntries(requests, options)[Symbol.asyncIterator]()
  try {
    const first = await next()
    if (first.entryRevisions.length === 0) return first.entries.flatMap(message => read(message))
    const revisions = [...first.entryRevisions]
    for (let page = first; page.more;) {
      page = await next()
      revisions.push(...page.entryRevisions)
    }
    return await fetchStale(revisions, first.entryRevisions.length)
  } finally {
    requests.close()
    await answers.return?.()
  }

  async function next () {
    const answer = await answers.next()
    if (answer.done === true) throw new SpiffeError('server_unreachable', 'the server ended the synchronisation early')
    return answer.value
  }

  /** @param pageSize the server's: it answers no question for more */
  async function fetchStale (revisions: readonly EntryRevision[], pageSize: number): Promise<Entry[]> {
    const fresh = new Map<string, Entry>()
    const stale = revisions.filter(revision => !isCurrent(revision)).map(revision => revision.id).toSorted()
    const staleIds = new Set(stale)
    for (let start = 0; start < stale.length; start += pageSize) {
      requests.put({ ids: stale.slice(start, start + pageSize) })
      for (let more = true; more;) {
        const page = await next()
        for (const entry of page.entries.flatMap(message => read(message))) fresh.set(entry.id, entry)
        more = page.more
      }
    }
    return revisions.flatMap(({ id }) => fresh.get(id) ?? (staleIds.has(id) ? [] : known.get(id) ?? []))
  }

  function isCurrent (revision: EntryRevision): boolean { return current(revision, known) !== undefined }

  function read (message: EntryMessage): Entry[] { return readOrKeep(message, known, agentId, log) }
}

/** The same in SPIRE's older form: all entries in one answer, each time. */
export async function fetchAllEntries (
  client: ClientOf<typeof entryService.methods>, known: ReadonlyMap<string, Entry>, agentId: SpiffeId, log: Logger, options: CallOptions
): Promise<Entry[]> {
  const { entries } = await client.getAuthorizedEntries({ outputMask: agentEntryMask }, options)
  return entries.flatMap(message => readOrKeep(message, known, agentId, log))
}

function readOrKeep (message: EntryMessage, known: ReadonlyMap<string, Entry>, agentId: SpiffeId, log: Logger): Entry[] {
  const entry = current(message, known) ?? readEntry(message, agentId, log)
  return entry === undefined ? [] : [entry]
}

function current ({ id, revisionNumber, createdAt }: EntryRevision, known: ReadonlyMap<string, Entry>): Entry | undefined {
  const entry = known.get(id)
  return entry?.revisionNumber === Number(revisionNumber) && entry.createdAtSeconds === Number(createdAt) ? entry : undefined
}
