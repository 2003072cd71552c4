import { SpiffeError } from '../../spiffe/errors.ts'
import { chunks, idsPerStatement } from './chunks.ts'

/** One table, within a transaction. */
export interface Deletion<Item> {
  /** Nobody else changes what it read before the transaction ends. */
  read (ids: readonly string[]): Promise<readonly Item[]>
  /** @returns what was there */
  remove (ids: readonly string[]): Promise<readonly Item[]>
  notFound (id: string): SpiffeError
}

/** @returns in the order of the IDs; of one that is named twice, the second is not found */
export async function deleteGuarded<Item extends { readonly id: string }> (
  ids: readonly string[], guard: ((before: Item, after: undefined) => SpiffeError | undefined) | undefined, deletion: Deletion<Item>
): Promise<ReadonlyArray<Item | SpiffeError>> {
  const deleted = new Map<string, Item>()
  const refused = new Map<string, SpiffeError>()
  for (const chunk of chunks(ids, idsPerStatement)) {
    const allowed = guard === undefined ? chunk : (await deletion.read(chunk)).flatMap(item => {
      const refusal = guard(item, undefined)
      if (refusal === undefined) return [item.id]
      refused.set(item.id, refusal)
      return []
    })
    if (allowed.length === 0) continue
    for (const item of await deletion.remove(allowed)) deleted.set(item.id, item)
  }
  return ids.map(id => {
    const item = deleted.get(id)
    deleted.delete(id)
    return item ?? refused.get(id) ?? deletion.notFound(id)
  })
}

export function isDone<Item> (outcome: Item | SpiffeError): outcome is Item { return !(outcome instanceof SpiffeError) }
