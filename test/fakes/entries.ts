import { plainEntry, type Entry, type EntryDraft } from '../../src/spiffe/entry.ts'
import { normalizeSelectors, parseSelector } from '../../src/spiffe/selector.ts'
import { parseSpiffeId } from '../../src/spiffe/spiffe-id.ts'

export interface EntryOptions extends Partial<Omit<Entry, 'spiffeId' | 'parentId' | 'selectors'>> {
  /** Path or whole ID. */
  readonly spiffeId?: string
  readonly parentId?: string
  /** As `type:value`. */
  readonly selectors?: readonly string[]
}

export const testDomain = 'example.org'

/** An entry with sensible defaults; IDs may be given as paths of `example.org`. */
export function makeEntry (options: EntryOptions = {}): Entry {
  return {
    ...plainEntry,
    id: 'entry',
    revisionNumber: 0,
    createdAtSeconds: 0,
    ...options,
    spiffeId: idOf(options.spiffeId ?? '/workload'),
    parentId: idOf(options.parentId ?? '/spire/agent/join_token/node'),
    selectors: normalizeSelectors((options.selectors ?? ['unix:uid:1000']).map(parseSelector))
  }
}

export function makeDraft (options: EntryOptions = {}): EntryDraft {
  const { revisionNumber: _revision, createdAtSeconds: _created, ...draft } = makeEntry({ id: '', ...options })
  return draft
}

export function idOf (text: string) {
  return parseSpiffeId(text.startsWith('/') ? `spiffe://${testDomain}${text}` : text)
}
