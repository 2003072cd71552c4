import { checkEntry } from '../../spiffe/check-entry.ts'
import type { Entry, EntryDraft } from '../../spiffe/entry.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import type { TrustDomain } from '../../spiffe/trust-domain.ts'
import type { CallContext } from '../../rpc/call.ts'
import type { EntryStore } from '../../storage/entry-store.ts'
import { decodeEntryDraft, encodeEntry, maskedDraft } from '../../wire/entry-codec.ts'
import type {
  BatchCreateEntryRequest, BatchCreateEntryResponse_ResultInit, BatchUpdateEntryRequest, BatchUpdateEntryResponse_ResultInit, EntryHandlers
} from '../../wire/generated/server-entry.ts'
import type { Entry as EntryMessage } from '../../wire/generated/types.ts'
import type { Registrations } from '../registrations.ts'
import { authorizedEntryHandlers, type AuthorizedEntryDeps } from './authorized-entry-handlers.ts'
import { decodeEntryFilter } from './filters.ts'
import { entryRefused, isAccepted, itemOk, itemRefused } from './item-status.ts'

export interface EntryDeps extends AuthorizedEntryDeps {
  readonly trustDomain: TrustDomain
  readonly entries: EntryStore
  readonly registrations: Registrations
  readonly catchUp: () => Promise<void>
}

/** `spire.api.server.entry.v1.Entry` (spire-surface §1.5). */
export function entryHandlers (deps: EntryDeps): EntryHandlers<CallContext> {
  const { entries, registrations } = deps
  return {
    ...authorizedEntryHandlers(deps),

    async countEntries ({ filter }) {
      return { count: await entries.count(decodeEntryFilter(filter)) }
    },

    async listEntries ({ filter, outputMask, pageSize, pageToken }) {
      const page = await entries.list(decodeEntryFilter(filter), { size: pageSize, token: pageToken })
      return { entries: page.entries.map(entry => encodeEntry(entry, outputMask)), nextPageToken: page.nextPageToken }
    },

    async getEntry ({ id, outputMask }) {
      if (id === '') throw new SpiffeError('entry_malformed', 'missing ID')
      const entry = await entries.get(id)
      if (entry === undefined) throw new SpiffeError('entry_not_found', 'entry not found')
      return encodeEntry(entry, outputMask)
    },

    async batchCreateEntry (request) {
      return { results: await createEntries(request, deps) }
    },

    async batchUpdateEntry (request) {
      return { results: await updateEntries(request, deps) }
    },

    async batchDeleteEntry ({ ids }) {
      const outcomes = await registrations.deleteEntries(ids.filter(id => id !== ''))
      const deleted = outcomes.values()
      return {
        results: ids.map(id => {
          if (id === '') return { id, status: itemRefused(new SpiffeError('entry_malformed', 'missing entry ID')) }
          const outcome = deleted.next().value
          return { id, status: outcome instanceof SpiffeError ? itemRefused(outcome) : itemOk }
        })
      }
    }
  }
}

async function createEntries ({ entries, outputMask }: BatchCreateEntryRequest, { trustDomain, registrations }: EntryDeps) {
  const drafts = entries.map(message => checked(message, trustDomain))
  const outcomes = (await registrations.createEntries(drafts.filter(isAccepted))).values()
  return drafts.map((draft): BatchCreateEntryResponse_ResultInit => {
    if (draft instanceof SpiffeError) return { status: entryRefused(draft, 'create') }
    const outcome = outcomes.next().value
    if (outcome === undefined) throw new Error('the store gave fewer outcomes than drafts')
    if (outcome.kind === 'refused') return { status: entryRefused(outcome.error, 'create') }
    const entry = encodeEntry(outcome.entry, outputMask)
    if (outcome.kind === 'created') return { status: itemOk, entry }
    return { status: itemRefused(new SpiffeError('entry_exists', 'similar entry already exists')), entry }
  })
}

async function updateEntries (
  { entries, inputMask, outputMask }: BatchUpdateEntryRequest, { trustDomain, registrations, registry, catchUp }: EntryDeps
) {
  // Against what the database says now: another replica may have made the entry a moment ago.
  await catchUp()
  const updates = entries.map(message => {
    try {
      if (message.id === '') throw new SpiffeError('entry_malformed', 'missing entry ID')
      const stored = registry.get(message.id)
      if (stored === undefined) throw new SpiffeError('entry_not_found', 'entry not found')
      const { revisionNumber: _revision, createdAtSeconds: _created, ...base } = stored
      const { id, ...draft } = checkEntry({ ...base, ...maskedDraft(decodeEntryDraft(message), inputMask), id: message.id }, trustDomain)
      return { id, change: maskedDraft(draft, inputMask) }
    } catch (error) {
      if (error instanceof SpiffeError) return error
      throw error
    }
  })
  const outcomes = (await registrations.updateEntries(updates.filter(isAccepted))).values()
  return updates.map((update): BatchUpdateEntryResponse_ResultInit => {
    const outcome = update instanceof SpiffeError ? update : outcomes.next().value as Entry | SpiffeError
    if (!(outcome instanceof SpiffeError)) return { status: itemOk, entry: encodeEntry(outcome, outputMask) }
    return { status: outcome.code === 'entry_not_found' ? itemRefused(outcome) : entryRefused(outcome, 'update') }
  })
}

function checked (message: EntryMessage, trustDomain: TrustDomain): EntryDraft | SpiffeError {
  try {
    return checkEntry(decodeEntryDraft(message), trustDomain)
  } catch (error) {
    if (error instanceof SpiffeError) return error
    throw error
  }
}
