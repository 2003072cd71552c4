import { readdirSync, readlinkSync } from 'node:fs'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { SpiffeError } from '../../spiffe/errors.ts'
import { controlGroupProcesses } from './control-group.ts'
import type { SocketFacts } from './inet-diag.ts'
import { pinHolder, type Descriptor, type SocketHolder } from './socket-holder.ts'

/** Files looked at in one turn of the event loop, about 2 ms: a workload may have as many as it likes. */
const filesPerTurn = 1_000
const maxHolders = 256

export interface Holders extends Disposable {
  readonly holders: readonly SocketHolder[]
}

/**
 * The processes that have the socket among their files: of the control group that made it, and of all only if nobody there has it. One
 * elsewhere was handed the socket by one that could as well have passed its bytes on.
 * @throws {SpiffeError} `connection_unknown` when nobody has it (any more); `connection_ambiguous` when too many have;
 * `socket_lookup_failed` when nobody has and processes could not be looked into
 */
export async function findHolders ({ inode, cgroupId }: SocketFacts, signal: AbortSignal): Promise<Holders> {
  const group = cgroupId === undefined ? undefined : controlGroupProcesses(cgroupId)
  const search = new Search(`socket:[${inode}]`, signal)
  using scope = new DisposableStack()
  scope.defer(() => { for (const holder of search.found) holder[Symbol.dispose]() })
  if (group !== undefined) await search.look(group)
  if (search.found.length === 0) await search.look(allProcesses())
  if (search.found.length === 0) throw nobody(search.hidden)
  const owned = scope.move()
  return { holders: search.found, [Symbol.dispose]: () => owned.dispose() }
}

class Search {
  readonly found: SocketHolder[] = []
  /** Processes whose files we may not see. */
  hidden = 0
  readonly #link: string
  readonly #signal: AbortSignal
  #files = 0

  constructor (link: string, signal: AbortSignal) {
    this.#link = link
    this.#signal = signal
  }

  async look (pids: readonly number[]): Promise<void> {
    this.hidden = 0
    for (const pid of pids) await this.#process(pid)
  }

  async #process (pid: number): Promise<void> {
    for (const fd of this.#descriptors(pid)) {
      if (++this.#files % filesPerTurn === 0) {
        await nextTurn()
        this.#signal.throwIfAborted()
      }
      const link = this.#linkOf({ pid, fd })
      if (link !== this.#link) continue
      const holder = pinHolder({ pid, fd }, link)
      if (holder !== undefined) this.found.push(holder)
      if (this.found.length > maxHolders) {
        throw new SpiffeError('connection_ambiguous', `more than ${maxHolders} processes have the socket`)
      }
      // A second descriptor of the same process tells nothing new.
      if (holder !== undefined) return
    }
  }

  #descriptors (pid: number): string[] {
    try {
      return readdirSync(`/proc/${pid}/fd`)
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException
      if (code !== 'ENOENT' && code !== 'ESRCH') this.hidden++
      return []
    }
  }

  #linkOf ({ pid, fd }: Descriptor): string | undefined {
    try {
      return readlinkSync(`/proc/${pid}/fd/${fd}`)
    } catch {
      // Closed meanwhile.
      return undefined
    }
  }
}

function allProcesses (): number[] {
  return readdirSync('/proc').filter(name => /^\d+$/.test(name)).map(Number)
}

function nobody (hidden: number): SpiffeError {
  return hidden === 0
    ? new SpiffeError('connection_unknown', 'no process has the socket any more')
    : new SpiffeError('socket_lookup_failed', `nobody seen has the socket, and ${hidden} processes may not be looked into`)
}
