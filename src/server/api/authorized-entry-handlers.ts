import type { Entry } from '../../spiffe/entry.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import type { CallContext } from '../../rpc/call.ts'
import { encodeEntry } from '../../wire/entry-codec.ts'
import type {
  EntryHandlers, EntryRevisionInit, SyncAuthorizedEntriesRequest, SyncAuthorizedEntriesResponseInit
} from '../../wire/generated/server-entry.ts'
import type { EntryMask } from '../../wire/generated/types.ts'
import type { Authorizer } from '../authorize.ts'
import type { AgentView } from '../node-aliases.ts'
import type { Polls } from '../push/polls.ts'
import type { Registry } from '../registry.ts'

export interface AuthorizedEntryDeps {
  readonly registry: Registry
  readonly polls: Polls
  readonly authorizer: Authorizer
}

/** SPIRE's page: larger sets are synchronised by revision (spire-surface §2.3). */
const pageSize = 500
/** Ids one request may name; the agent sends what one page of revisions made stale. */
const maxIds = pageSize

type AuthorizedEntryHandlers = Pick<EntryHandlers<CallContext>, 'getAuthorizedEntries' | 'syncAuthorizedEntries'>

/** What agents ask: the entries they may serve, whole or by what changed. */
export function authorizedEntryHandlers ({ registry, authorizer, polls }: AuthorizedEntryDeps): AuthorizedEntryHandlers {
  const entriesOf = (context: CallContext) => {
    const agent = authorizer.agentOf(context)
    polls.answered(agent.id)
    return registry.authorizedEntries(agent)
  }
  return {
    async getAuthorizedEntries ({ outputMask }, context) {
      return { entries: entriesOf(context).map(entry => encodeEntry(entry, outputMask)) }
    },

    async * syncAuthorizedEntries (requests, context) {
      const stream = requests[Symbol.asyncIterator]()
      const first = await stream.next()
      if (first.done === true) return
      const mask = checkFirst(first.value)
      const entries = entriesOf(context)
      if (entries.length <= pageSize) {
        yield { entries: entries.map(entry => encodeEntry(entry, mask)) }
        return
      }
      yield * revisionPages(entries)
      // The agent asks when it likes, and is told of what it may serve by then. Streams that wait cost next to nothing.
      for (let next = await stream.next(); next.done !== true; next = await stream.next()) {
        yield entryPage(next.value, registry, authorizer.agentOf(context), mask)
      }
    }
  }
}

function checkFirst ({ ids, outputMask }: SyncAuthorizedEntriesRequest): EntryMask | undefined {
  if (ids.length > 0) throw new SpiffeError('argument_invalid', 'specifying IDs on initial request is not supported')
  if (outputMask?.revisionNumber === false) {
    throw new SpiffeError('argument_invalid', 'revision number cannot be masked')
  }
  return outputMask
}

function * revisionPages (entries: readonly Entry[]): Generator<SyncAuthorizedEntriesResponseInit> {
  for (let start = 0; start < entries.length; start += pageSize) {
    const entryRevisions = entries.slice(start, start + pageSize).map((entry): EntryRevisionInit => ({
      id: entry.id, revisionNumber: entry.revisionNumber, createdAt: entry.createdAtSeconds
    }))
    yield { entryRevisions, more: start + pageSize < entries.length }
  }
}

/** The named entries as they are now, unknown ids and those of other agents left out in silence; the page may be empty. */
function entryPage (
  { ids }: SyncAuthorizedEntriesRequest, registry: Registry, agent: AgentView, mask: EntryMask | undefined
): SyncAuthorizedEntriesResponseInit {
  if (ids.length > maxIds) throw new SpiffeError('argument_invalid', `more than ${maxIds} IDs in one request`)
  const authorizes = registry.authorizes(agent)
  return {
    entries: ids.flatMap(id => {
      const entry = registry.get(id)
      return entry !== undefined && authorizes(entry) ? [encodeEntry(entry, mask)] : []
    })
  }
}
