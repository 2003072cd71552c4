import { SpiffeError } from '../spiffe/errors.ts'
import type { Agent } from '../spiffe/agent.ts'
import type { SpiffeId } from '../spiffe/spiffe-id.ts'

/** Stores that a renewed SVID was used, and shows the result in the directory. */
export type PromoteSerial = (id: SpiffeId, newSerialNumber: string) => Promise<Agent>

/** Why an agent is refused; the gRPC detail of SPIRE's API says the same (spire-surface §1.1). */
export type AgentRefusal = 'agent_expired' | 'agent_not_attested' | 'agent_not_active' | 'agent_banned'

/**
 * Every attested node in memory, so that authorizing a call costs no query. Each change is stored first and then shown here;
 * with one server per database that makes the two equal.
 */
export class AgentDirectory {
  readonly #promote: PromoteSerial
  readonly #agents = new Map<SpiffeId, Agent>()

  constructor (promote: PromoteSerial) { this.#promote = promote }

  get size (): number { return this.#agents.size }

  get (id: SpiffeId): Agent | undefined { return this.#agents.get(id) }

  put (agent: Agent): void { this.#agents.set(agent.id, agent) }

  remove (id: SpiffeId): void { this.#agents.delete(id) }

  /**
   * Admits an agent by the serial number of its SVID (spire-surface §2.2). The first call with a renewed SVID makes it the
   * current one; from then on the older SVID is refused.
   * @throws {SpiffeError} an `AgentRefusal`
   */
  async admit (id: SpiffeId, serialNumber: string, expiresAt: Date, now: Date): Promise<Agent> {
    const refuse = (code: AgentRefusal, why: string) => new SpiffeError(code, `agent ${id} ${why}`)
    if (expiresAt <= now) throw refuse('agent_expired', 'presented an expired SVID')
    const agent = this.#agents.get(id)
    if (agent === undefined) throw refuse('agent_not_attested', 'is not attested')
    if (agent.banned) throw refuse('agent_banned', 'is banned')
    if (serialNumber === agent.serialNumber) return agent
    if (serialNumber !== agent.newSerialNumber) throw refuse('agent_not_active', 'presented an SVID that was replaced')
    return await this.#promote(id, serialNumber)
  }
}
