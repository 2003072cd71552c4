import type { Entry } from '../spiffe/entry.ts'
import { SpiffeError } from '../spiffe/errors.ts'
import type { SpiffeId } from '../spiffe/spiffe-id.ts'
import type { Logger } from '../runtime/logger.ts'
import { decodeEntry } from '../wire/entry-codec.ts'
import type { Entry as EntryMessage } from '../wire/generated/types.ts'

/** An entry as a server sent it; `undefined`, with a warning, when it cannot be read: the others stand. */
export function readEntry (message: EntryMessage, agentId: SpiffeId, log: Logger): Entry | undefined {
  try {
    if (message.selectors.length === 0) throw new SpiffeError('entry_malformed', 'selector list is empty')
    return decodeEntry(message, agentId)
  } catch (error) {
    log.warn({ entry: message.id, err: error }, 'the server sent an entry that cannot be read; it is left out')
    return undefined
  }
}
