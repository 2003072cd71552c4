import type { PartnerState } from '../../federation/client/partner-state.ts'
import type { Clock } from '../../runtime/clock.ts'
import type { Logger } from '../../runtime/logger.ts'
import { isStop } from '../../runtime/tasks.ts'
import { codeOf } from '../../spiffe/errors.ts'
import type { TrustDomain } from '../../spiffe/trust-domain.ts'
import type { Stores } from '../../storage/datastore.ts'
import { carryOver, decodeFacts, encodeFacts, factsOf, type PartnerFacts } from './partner-facts.ts'

export interface PartnerReportsDeps {
  readonly replicaId: string
  readonly states: () => ReadonlyMap<TrustDomain, PartnerState>
  /** Those that are wanted now. */
  readonly partners: () => Iterable<TrustDomain>
  /** The stores of whoever does the trust domain's chores; undefined while another replica does. */
  readonly lease: { readonly stores: Pick<Stores, 'partnerStates'> | undefined }
  readonly clock: Clock
  readonly log: Logger
}

/** Of each partner no more is written. */
const everyMs = 1_000

/** What is written in one tenure. */
interface Tenure {
  /** As it was taken over: from another replica, or from a follower of this one that was replaced. */
  readonly before: Map<TrustDomain, PartnerFacts>
  readonly written: Map<TrustDomain, PartnerState>
  /** Names of those whose rows may be there. */
  kept: string | undefined
}

/** Has whoever follows the partners say how they fare, so that every replica can tell. */
export class PartnerReports {
  readonly #deps: PartnerReportsDeps
  #tenure: Tenure | undefined

  constructor (deps: PartnerReportsDeps) { this.#deps = deps }

  /** Looks once a second until the signal aborts, and writes what has changed. */
  async run (signal: AbortSignal): Promise<void> {
    const { clock, log } = this.#deps
    for (;;) {
      await clock.sleep(everyMs, signal)
      try {
        await this.report()
      } catch (error) {
        if (isStop(error, signal)) throw error
        // Whoever holds the lease next reads what is there.
        this.#tenure = undefined
        if (codeOf(error) !== 'lease_lost') log.warn({ err: error }, 'how partners fare could not be written; trying again')
      }
    }
  }

  /** One look. */
  async report (): Promise<void> {
    const { lease: { stores }, states, partners, replicaId, clock } = this.#deps
    if (stores === undefined) {
      this.#tenure = undefined
      return
    }
    const { partnerStates } = stores
    this.#tenure ??= {
      before: new Map((await partnerStates.list()).map(({ trustDomain, facts }) => [trustDomain, decodeFacts(facts)])),
      written: new Map(), kept: undefined
    }
    const { before, written } = this.#tenure
    const wanted = new Set(partners())
    const changed = [...states()].filter(([domain, state]) => written.get(domain) !== state && wanted.has(domain))
    const seenAt = clock.now()
    const rows = changed.map(([trustDomain, state]) => {
      const last = written.get(trustDomain)
      if (last !== undefined && isAnother(last, state)) before.set(trustDomain, carryOver(before.get(trustDomain), factsOf(last)))
      return { trustDomain, replicaId, seenAt, facts: encodeFacts(carryOver(before.get(trustDomain), factsOf(state))) }
    })
    await partnerStates.put(rows)
    for (const [domain, state] of changed) written.set(domain, state)
    const names = [...wanted].toSorted().join(' ')
    if (names === this.#tenure.kept) return
    await partnerStates.keep([...wanted])
    for (const domain of written.keys()) if (!wanted.has(domain)) written.delete(domain)
    this.#tenure.kept = names
  }
}

/** Whether this is no later state of the same follower: successes stay, and failures end in one. */
function isAnother (last: PartnerState, { lastSuccessAt, failures }: PartnerState): boolean {
  return lastSuccessAt === undefined && (last.lastSuccessAt !== undefined || failures < last.failures)
}
