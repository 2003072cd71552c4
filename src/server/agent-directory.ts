import { SpiffeError } from '../spiffe/errors.ts'
import type { Agent } from '../spiffe/agent.ts'
import type { SpiffeId } from '../spiffe/spiffe-id.ts'

export interface AgentDirectoryDeps {
  /** Stores that a renewed SVID was used, and shows the result in the directory. */
  readonly promote: (id: SpiffeId, newSerialNumber: string) => Promise<Agent>
  /** Brings the directory up to what the database says now. */
  readonly catchUp: () => Promise<void>
}

/** Why an agent is refused; the gRPC detail of SPIRE's API says the same (spire-surface §1.1). */
export type AgentRefusal = 'agent_expired' | 'agent_not_attested' | 'agent_not_active' | 'agent_banned'

/** Every attested node in memory, so that authorizing a call costs no query. Follows the log of changes. */
export class AgentDirectory {
  readonly #deps: AgentDirectoryDeps
  readonly #agents = new Map<SpiffeId, Agent>()

  constructor (deps: AgentDirectoryDeps) { this.#deps = deps }

  get size (): number { return this.#agents.size }

  get (id: SpiffeId): Agent | undefined { return this.#agents.get(id) }

  /**
   * The agent as it is now, for calls and streams that have gone on for a while.
   * @throws {SpiffeError} `agent_not_attested`, `agent_banned`
   */
  standing (id: SpiffeId): Agent {
    const found = this.#find(id)
    if (typeof found === 'string') throw refusal(found, id)
    return found
  }

  put (agent: Agent): void { this.#agents.set(agent.id, agent) }

  remove (id: SpiffeId): void { this.#agents.delete(id) }

  /**
   * Admits an agent by the serial number of its SVID (spire-surface §2.2). The first call with a renewed SVID makes it the
   * current one; from then on the older SVID is refused. An agent that was attested or renewed at another replica a moment ago may be
   * ahead of this directory: nobody is refused on an old view, but for a ban.
   * @throws {SpiffeError} an `AgentRefusal`
   */
  async admit (id: SpiffeId, serialNumber: string, expiresAt: Date, now: Date): Promise<Agent> {
    if (expiresAt <= now) throw refusal('agent_expired', id)
    const first = this.#judge(id, serialNumber)
    if (first !== 'agent_not_attested' && first !== 'agent_not_active') return await this.#admitAs(first, id, serialNumber)
    await this.#deps.catchUp()
    return await this.#admitAs(this.#judge(id, serialNumber), id, serialNumber)
  }

  #judge (id: SpiffeId, serialNumber: string): Agent | 'renewed' | AgentRefusal {
    const found = this.#find(id)
    if (typeof found === 'string' || serialNumber === found.serialNumber) return found
    return serialNumber === found.newSerialNumber ? 'renewed' : 'agent_not_active'
  }

  #find (id: SpiffeId): Agent | AgentRefusal {
    const agent = this.#agents.get(id)
    if (agent === undefined) return 'agent_not_attested'
    return agent.banned ? 'agent_banned' : agent
  }

  async #admitAs (verdict: Agent | 'renewed' | AgentRefusal, id: SpiffeId, serialNumber: string): Promise<Agent> {
    if (verdict === 'renewed') return await this.#deps.promote(id, serialNumber)
    if (typeof verdict === 'string') throw refusal(verdict, id)
    return verdict
  }
}

const why: Readonly<Record<AgentRefusal, string>> = {
  agent_expired: 'presented an expired SVID',
  agent_not_attested: 'is not attested',
  agent_banned: 'is banned',
  agent_not_active: 'presented an SVID that was replaced'
}

function refusal (code: AgentRefusal, id: SpiffeId): SpiffeError {
  return new SpiffeError(code, `agent ${id} ${why[code]}`)
}
