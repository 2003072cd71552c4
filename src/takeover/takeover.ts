import { SpiffeError } from '../spiffe/errors.ts'
import type { DomainState } from './domain-state.ts'
import { newJournal, settledAt, type Journal } from './journal.ts'
import { KeptJournal } from './kept-journal.ts'
import { look, type Looked, type TakeoverDeps } from './look.ts'
import { over, requireFree, requireNone, requireRunning, unknownTakeover } from './refusals.ts'
import { copyBack, takeAway } from './roll-back.ts'
import { makeEqual } from './round.ts'

export interface RoundOptions {
  /** Goes on though somebody breaks. */
  readonly force?: boolean
  /** Begins a takeover where there is none. */
  readonly begin?: boolean
  /** Of one that begins: how long who follows bundles is given; by the bundle's refresh hint unless given. */
  readonly settleMs?: number | undefined
}

/** How long who follows bundles is given: agents ask every few seconds, partners as often as the bundle hints. */
const leastSettleMs = 60_000
const usualRefreshHintSeconds = 300

/**
 * A trust domain's move from SPIRE's server to ours. Every step begins with a look at both servers and at the journal, writes there what it
 * is about to make, and makes it: a step may be repeated, and the next one knows what one that was killed has left.
 */
export class Takeover {
  readonly #deps: TakeoverDeps

  constructor (deps: TakeoverDeps) { this.#deps = deps }

  /** Changes nothing. @throws {SpiffeError} as `look` does */
  async look (): Promise<Looked> {
    return await look(this.#deps)
  }

  /**
   * One round: each bundle gets the other's authorities, our server gets what partners and, once everybody has had time to see the bundles,
   * entries SPIRE has. Begins the takeover where there is none.
   * @throws {SpiffeError} `takeover_blocked`, `takeover_over`, `takeover_refused`
   */
  async round (options: RoundOptions = {}): Promise<Looked> {
    using scope = new DisposableStack()
    scope.use(await this.#deps.lock())
    return await this.#round(options)
  }

  async #round ({ begin = false, settleMs, force = false }: RoundOptions): Promise<Looked> {
    const looked = await this.look()
    const { plan, there, at } = looked
    if (looked.journal === undefined && !begin) throw unknownTakeover(this.#deps.file)
    const journal = this.#keep(looked.journal ?? newJournal(plan.trustDomain, settleMs ?? usualSettleMs(there), at))
    requireRunning(journal.current)
    if (!force) requireFree(plan)
    await makeEqual(looked, journal, this.#deps)
    return { ...looked, journal: journal.current }
  }

  /**
   * From now on our server's entries count, and nothing is copied any more.
   * @throws {SpiffeError} `takeover_not_settled`, `takeover_agents_left`, `takeover_blocked`, `takeover_unknown`, `takeover_over`
   */
  async finish ({ force = false }: { readonly force?: boolean } = {}): Promise<Looked> {
    using scope = new DisposableStack()
    scope.use(await this.#deps.lock())
    const looked = await this.#round({ force })
    const { plan, journal } = looked
    if (journal?.phase !== 'open') {
      const from = settledAt(journal as Journal).toISOString()
      throw new SpiffeError('takeover_not_settled', `agents may move from ${from}: nothing has moved yet`)
    }
    if (!force) {
      requireNone(plan.agents.filter(({ place }) => place === 'there'), 'takeover_agents_left', 'of SPIRE\'s would lose their server')
    }
    await this.#keep(journal).save({ phase: 'finished' })
    return await this.look()
  }

  /**
   * Gives the trust domain back to SPIRE: of a finished takeover, what changed here since is copied back first; then, once no agent is here
   * any more, what was copied here goes. Our authorities stay in SPIRE's bundle until they end: its API takes none out.
   * @throws {SpiffeError} `takeover_agents_moved`, `takeover_unknown`, `takeover_over`, `takeover_refused`
   */
  async rollBack ({ force = false }: { readonly force?: boolean } = {}): Promise<Looked> {
    using scope = new DisposableStack()
    scope.use(await this.#deps.lock())
    let looked = await this.look()
    if (looked.journal === undefined) throw unknownTakeover(this.#deps.file)
    const journal = this.#keep(looked.journal)
    if (journal.current.phase === 'rolled_back') throw over(journal.current)
    if (journal.current.phase === 'finished') {
      await copyBack(looked, journal, this.#deps)
      looked = await this.look()
    }
    if (!force) {
      const moved = looked.plan.agents.filter(({ place }) => place === 'here')
      requireNone(moved, 'takeover_agents_moved', 'here would lose their entries')
    }
    await takeAway(journal, this.#deps)
    return await this.look()
  }

  #keep (journal: Journal): KeptJournal { return new KeptJournal(this.#deps.file, journal) }
}

function usualSettleMs ({ bundle }: DomainState): number {
  return Math.max(leastSettleMs, 2_000 * (bundle.refreshHintSeconds ?? usualRefreshHintSeconds))
}
