import { batchesBySize } from '../../runtime/batches-by-size.ts'
import type { EntryChanges } from '../desired/diff-entries.ts'
import type { EntryMirror } from '../server/entry-mirror.ts'
import type { Outcome, ServerEntries } from '../server/server-entries.ts'

export type Operation = 'create' | 'update' | 'remove'

export interface Applied {
  /** Keys of entries that were not there before. */
  readonly created: ReadonlySet<string>
  /** By key: what the server said. */
  readonly failures: ReadonlyMap<string, { readonly operation: Operation, readonly message: string }>
  readonly counts: Readonly<Record<Operation, number>>
}

export interface ApplyDeps {
  readonly server: Pick<ServerEntries, 'create' | 'update' | 'remove'>
  readonly mirror: EntryMirror
  /** Before each call. @throws {SpiffeError} `lease_lost` */
  readonly check: () => void
}

/** Its JSON is longer than its message. Who makes services gives pods many names. */
const sizeOf = ({ entry }: { readonly entry: object }) => Buffer.byteLength(JSON.stringify(entry))

/**
 * Creates first and removes last, so that a pod whose ID changes has one all the time. What was done is in the mirror even if a later call
 * fails.
 * @throws {RpcError} @throws {SpiffeError} `lease_lost`
 */
export async function applyEntries (
  { create, update, remove }: EntryChanges, { server, mirror, check }: ApplyDeps, signal: AbortSignal
): Promise<Applied> {
  const created = new Set<string>()
  const failures = new Map<string, { operation: Operation, message: string }>()
  const counts = { create: 0, update: 0, remove: 0 }
  const each = async <Item extends { readonly key: string, readonly entry: object }> (
    operation: Operation, items: readonly Item[], call: (items: readonly Item[]) => Promise<Outcome[]>,
    done: (item: Item, outcome: Outcome) => string | undefined
  ) => {
    for (const batch of batchesBySize(items, sizeOf)) {
      check()
      const outcomes = await call(batch)
      for (const [index, item] of batch.entries()) {
        const outcome = outcomes[index] ?? { kind: 'refused', message: 'the server gave fewer results than it was asked for' }
        const message = outcome.kind === 'refused' ? outcome.message : done(item, outcome)
        if (message === undefined) counts[operation]++
        else failures.set(item.key, { operation, message })
      }
    }
  }

  await each('create', create, items => server.create(items.map(({ entry }) => entry), signal), ({ entry, key }, outcome) => {
    if (outcome.kind === 'exists' && outcome.id !== entry.id) {
      // It came after the list was read. An own one, by another ID, is compared when the list is read next.
      if (outcome.id !== undefined && mirror.isOwn(outcome.id)) return `an older entry, ${outcome.id}, is there`
      mirror.putForeign(key, outcome.id ?? 'unknown')
      return undefined
    }
    mirror.put(key, entry)
    created.add(key)
    return undefined
  })
  await each('update', update, items => server.update(items.map(({ entry }) => entry), signal), ({ entry, key }, outcome) => {
    if (outcome.kind === 'missing') {
      mirror.remove(key, entry.id)
      return 'somebody removed it'
    }
    mirror.put(key, entry)
    return undefined
  })
  await each('remove', remove, items => server.remove(items.map(({ entry }) => entry.id), signal), ({ entry, key }) => {
    mirror.remove(key, entry.id)
    return undefined
  })
  return { created, failures, counts }
}
