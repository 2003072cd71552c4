import type { Clock } from '../runtime/clock.ts'
import type { SpiffeId } from '../spiffe/spiffe-id.ts'
import { RateAllowance } from './rate-allowance.ts'
import type { Registrations } from './registrations.ts'

/** A node is updated now and then, and may be taken back at once. */
const burst = 5
const refillEveryMs = 60_000

/** Remembers what versions agents say they are: each is written, and told to every replica, but not as often as an agent likes. */
export class AgentVersions {
  readonly #registrations: Pick<Registrations, 'setAgentVersion'>
  readonly #clock: Pick<Clock, 'monotonicMs'>
  /** Of agents that said another one lately, the oldest first. */
  readonly #allowances = new Map<SpiffeId, RateAllowance>()

  constructor (registrations: Pick<Registrations, 'setAgentVersion'>, clock: Pick<Clock, 'monotonicMs'>) {
    this.#registrations = registrations
    this.#clock = clock
  }

  /** @param known the version so far. @throws {SpiffeError} `argument_invalid`, `agent_not_found` */
  async remember (id: SpiffeId, known: string, reported: string): Promise<void> {
    if (reported === '' || reported === known || !this.#take(id)) return
    await this.#registrations.setAgentVersion(id, reported)
  }

  #take (id: SpiffeId): boolean {
    const nowMs = this.#clock.monotonicMs()
    const allowance = this.#allowances.get(id) ?? new RateAllowance(burst, refillEveryMs, nowMs)
    const may = allowance.left(nowMs) > 0
    if (may) allowance.take(nowMs)
    this.#allowances.delete(id)
    this.#allowances.set(id, allowance)
    for (const [other, full] of this.#allowances) {
      if (full.left(nowMs) < burst) break
      this.#allowances.delete(other)
    }
    return may
  }
}
