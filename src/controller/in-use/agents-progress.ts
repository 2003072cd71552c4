import type { SpiffeId } from '../../spiffe/spiffe-id.ts'
import type { LogPlace } from '../../wire/cursor-codec.ts'
import type { AgentProgress } from '../server/server-convergence.ts'

/** Whether an entry is served: `no_agent`: nobody lives that could; `no_svid`: who has it could not have its SVID signed. */
export type EntryUse = 'used' | 'waiting' | 'no_agent' | 'no_svid'

/** What is known of the agents below one parent, as one. */
export interface Servers {
  readonly live: number
  /** Where the one stands that is furthest behind; `undefined`: nothing is proved of it. */
  readonly proved: LogPlace | undefined
  /** Who that is. */
  readonly slowest: SpiffeId | undefined
  readonly unserved: ReadonlySet<string>
}

/** How far agents are, each as far as it was ever seen to be. */
export class AgentsProgress {
  readonly #agents = new Map<SpiffeId, AgentProgress>()

  /** @param agents all there are */
  replace (agents: readonly AgentProgress[]): void {
    const known = new Set(agents.map(({ id }) => id))
    for (const id of this.#agents.keys()) if (!known.has(id)) this.#agents.delete(id)
    for (const agent of agents) {
      // After the server's restart a poll proves nothing at first: that does not take back what was proved.
      const before = this.#agents.get(agent.id)?.proved
      this.#agents.set(agent.id, { ...agent, proved: agent.proved === undefined ? before : laterOf(before, agent.proved) })
    }
  }

  /** @param ids those that are not known do not count */
  among (ids: Iterable<SpiffeId>): Servers {
    let [live, proved, slowest]: [number, LogPlace | undefined, SpiffeId | undefined] = [0, undefined, undefined]
    const unserved = new Set<string>()
    for (const id of ids) {
      const agent = this.#agents.get(id)
      if (agent === undefined || !agent.live) continue
      if (live++ === 0 || isBehind(agent.proved, proved)) [proved, slowest] = [agent.proved, id]
      for (const entryId of agent.unserved) unserved.add(entryId)
    }
    return { live, proved, slowest, unserved }
  }
}

/** @param at where the log stood when the entry was in it; `undefined`: not asked since */
export function useOf (entryId: string, at: LogPlace | undefined, { live, proved, unserved }: Servers): EntryUse {
  if (live === 0) return 'no_agent'
  if (at === undefined || proved === undefined || proved.epoch !== at.epoch || proved.number < at.number) return 'waiting'
  return unserved.has(entryId) ? 'no_svid' : 'used'
}

function laterOf (a: LogPlace | undefined, b: LogPlace): LogPlace {
  return a?.epoch === b.epoch && a.number > b.number ? a : b
}

function isBehind (a: LogPlace | undefined, b: LogPlace | undefined): boolean {
  if (a === undefined || b === undefined) return b !== undefined
  return a.epoch !== b.epoch || a.number < b.number
}
