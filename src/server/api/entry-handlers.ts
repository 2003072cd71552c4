import { checkEntry } from '../../spiffe/check-entry.ts'
import type { Entry, EntryDraft } from '../../spiffe/entry.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import type { TrustDomain } from '../../spiffe/trust-domain.ts'
import type { AdminAccess } from '../../authz/admin/access.ts'
import type { EntryFacts } from '../../authz/admin/admin-object.ts'
import type { CallContext } from '../../rpc/call.ts'
import type { EntryGuard, EntryStore } from '../../storage/entry-store.ts'
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
  const { authorizer, entries, registrations, trustDomain } = deps
  return {
    ...authorizedEntryHandlers(deps),

    async countEntries ({ filter }, context) {
      return { count: await entries.count({ ...decodeEntryFilter(filter, trustDomain), keep: readable(authorizer.accessOf(context)) }) }
    },

    async listEntries ({ filter, outputMask, pageSize, pageToken }, context) {
      const keep = readable(authorizer.accessOf(context))
      const page = await entries.list({ ...decodeEntryFilter(filter, trustDomain), keep }, { size: pageSize, token: pageToken })
      return { entries: page.entries.map(entry => encodeEntry(entry, outputMask)), nextPageToken: page.nextPageToken }
    },

    async getEntry ({ id, outputMask }, context) {
      if (id === '') throw new SpiffeError('entry_malformed', 'missing ID')
      const entry = await entries.get(id)
      const visible = entry !== undefined && authorizer.accessOf(context).covers('entries.read', objectOf(entry))
      if (!visible) throw new SpiffeError('entry_not_found', 'entry not found')
      return encodeEntry(entry, outputMask)
    },

    async batchCreateEntry (request, context) {
      return { results: await createEntries(request, authorizer.accessOf(context), deps) }
    },

    async batchUpdateEntry (request, context) {
      return { results: await updateEntries(request, authorizer.accessOf(context), deps) }
    },

    async batchDeleteEntry ({ ids }, context) {
      const guard = guardOf(authorizer.accessOf(context))
      if (guard !== undefined) await deps.catchUp()
      const outcomes = await registrations.deleteEntries(ids.filter(id => id !== ''), guard)
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

async function createEntries (
  { entries, outputMask }: BatchCreateEntryRequest, access: AdminAccess, { trustDomain, registrations, catchUp }: EntryDeps
) {
  // Which IDs administer is known from the entries.
  if (access.isRestricted) await catchUp()
  const drafts = entries.map(message => checked(message, trustDomain)).map(draft =>
    draft instanceof SpiffeError ? draft : access.refusal('entries.write', objectOf(draft)) ?? draft)
  const outcomes = (await registrations.createEntries(drafts.filter(isAccepted))).values()
  return drafts.map((draft): BatchCreateEntryResponse_ResultInit => {
    if (draft instanceof SpiffeError) return { status: entryRefused(draft, 'create') }
    const outcome = outcomes.next().value
    if (outcome === undefined) throw new Error('the store gave fewer outcomes than drafts')
    if (outcome.kind === 'refused') return { status: entryRefused(outcome.error, 'create') }
    const entry = encodeEntry(outcome.entry, outputMask)
    if (outcome.kind === 'created') return { status: itemOk, entry }
    const status = itemRefused(new SpiffeError('entry_exists', 'similar entry already exists'))
    return access.covers('entries.read', objectOf(outcome.entry)) ? { status, entry } : { status }
  })
}

async function updateEntries (
  { entries, inputMask, outputMask }: BatchUpdateEntryRequest, access: AdminAccess,
  { trustDomain, registrations, registry, catchUp }: EntryDeps
) {
  // Against what the database says now: another replica may have made the entry a moment ago.
  await catchUp()
  const updates = entries.map(message => {
    try {
      const stored = registry.get(message.id)
      if (stored === undefined || isHidden(stored, access)) throw new SpiffeError('entry_not_found', 'entry not found')
      const { revisionNumber: _revision, createdAtSeconds: _created, ...base } = stored
      const { id, ...draft } = checkEntry({ ...base, ...maskedDraft(decodeEntryDraft(message), inputMask), id: message.id }, trustDomain)
      return { id, change: maskedDraft(draft, inputMask) }
    } catch (error) {
      if (error instanceof SpiffeError) return error
      throw error
    }
  })
  const outcomes = (await registrations.updateEntries(updates.filter(isAccepted), guardOf(access))).values()
  return updates.map((update): BatchUpdateEntryResponse_ResultInit => {
    const outcome = update instanceof SpiffeError ? update : outcomes.next().value as Entry | SpiffeError
    if (!(outcome instanceof SpiffeError)) return { status: itemOk, entry: encodeEntry(outcome, outputMask) }
    return { status: entryRefused(outcome, 'update') }
  })
}

function objectOf (entry: EntryFacts) { return { kind: 'entry' as const, entry } }

function readable (access: AdminAccess) { return access.filter('entries.read', objectOf) }

/** Neither to be read nor to be written: for this caller it is not there. */
function isHidden (entry: EntryFacts, access: AdminAccess): boolean {
  return !access.covers('entries.read', objectOf(entry)) && !access.covers('entries.write', objectOf(entry))
}

/** An entry must be the caller's to write as it is stored, and as it will be. */
function guardOf (access: AdminAccess): EntryGuard | undefined {
  if (!access.isRestricted) return undefined
  return (before, after) => {
    const refusal = access.refusal('entries.write', objectOf(before))
    if (refusal !== undefined && isHidden(before, access)) return new SpiffeError('entry_not_found', 'entry not found')
    return refusal ?? (after && access.refusal('entries.write', objectOf(after)))
  }
}

function checked (message: EntryMessage, trustDomain: TrustDomain): EntryDraft | SpiffeError {
  try {
    return checkEntry(decodeEntryDraft(message), trustDomain)
  } catch (error) {
    if (error instanceof SpiffeError) return error
    throw error
  }
}
