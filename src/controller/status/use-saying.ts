import type { SpiffeId } from '../../spiffe/spiffe-id.ts'
import type { EntryUse } from '../in-use/agents-progress.ts'
import type { EntriesInUse, Ignorance, OwnEntry } from '../in-use/entries-in-use.ts'
import type { Saying, UseReason } from './conditions.ts'

export type UseView = Pick<EntriesInUse, 'ignorance' | 'of' | 'serversOf'>

const unknown: Readonly<Record<Ignorance, readonly [UseReason, string]>> = {
  unsupported: ['ServerCannotTell', 'the server has no assay.server.v1.Cluster API: it does not know what agents serve'],
  away: ['ServerAway', 'the server has not answered for a while'],
  early: ['NotAskedYet', 'the server was not asked yet']
}

/** How many entries of one resource are served, and who the first one is that is waited for. */
export class UseTally {
  readonly #counts: Record<EntryUse | 'unset', number> = { used: 0, unset: 0, no_agent: 0, no_svid: 0, waiting: 0 }
  readonly #first = new Map<EntryUse, SpiffeId>()

  /** @param entry `undefined`: it is not on the server as it should be */
  add (entry: OwnEntry | undefined, view: UseView): void {
    if (view.ignorance !== undefined) return
    const use = entry === undefined ? 'unset' : view.of(entry)
    this.#counts[use]++
    if (entry === undefined || use === 'unset' || this.#first.has(use)) return
    this.#first.set(use, view.serversOf(entry.parentId).slowest ?? entry.parentId)
  }

  saying ({ ignorance }: UseView): Saying {
    if (ignorance !== undefined) {
      const [reason, message] = unknown[ignorance]
      return { type: 'InUse', status: 'Unknown', reason, message }
    }
    const { used, unset, no_agent: noAgent, no_svid: noSvid, waiting } = this.#counts
    const all = used + unset + noAgent + noSvid + waiting
    const lacks: Array<readonly [UseReason, string]> = [
      ...some('NotSet', unset, 'not on the server'),
      ...some('NoAgent', noAgent, `without a live agent (${this.#first.get('no_agent')})`),
      ...some('NoSvid', noSvid, `without an SVID at ${this.#first.get('no_svid')}`),
      ...some('Waiting', waiting, `not acknowledged by ${this.#first.get('waiting')}`)
    ]
    const [lack] = lacks
    const message = [`${used} of ${all} entries are in use`, ...lacks.map(([, text]) => text)].join('; ')
    if (lack !== undefined) return { type: 'InUse', status: 'False', reason: lack[0], message }
    return all === 0
      ? { type: 'InUse', status: 'False', reason: 'NoEntries', message: 'it declares no entry' }
      : { type: 'InUse', status: 'True', reason: 'Served', message }
  }
}

function some (reason: UseReason, count: number, text: string): Array<readonly [UseReason, string]> {
  return count === 0 ? [] : [[reason, `${count} ${text}`]]
}
