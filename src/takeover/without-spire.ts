import { SpiffeError } from '../spiffe/errors.ts'
import { raiseSequence, sequenceBeyond } from './bundle-sequence.ts'
import { readDomain, type DomainState } from './domain-state.ts'
import { readJournal, type Journal } from './journal.ts'
import { KeptJournal } from './kept-journal.ts'
import { agentsHere, type TakeoverDeps } from './look.ts'
import { over, requireFree, requireNone, unknownTakeover } from './refusals.ts'
import { planWithoutSpire, type PlanWithoutSpire } from './without-spire-plan.ts'

export interface WithoutSpireDeps extends Pick<TakeoverDeps, 'ours' | 'file' | 'lock' | 'clock' | 'signal'> {
  /** Whether somebody answers where SPIRE's server was: that nobody does is no proof that it is gone, the operator says so. */
  readonly answers: () => Promise<boolean>
}

export interface LookedWithoutSpire {
  readonly ours: DomainState
  readonly journal: Journal
  readonly plan: PlanWithoutSpire
  readonly at: Date
}

const timeoutMs = 10_000

/** A takeover whose SPIRE server is gone for good: it can be ended here, and not go back. */
export class TakeoverWithoutSpire {
  readonly #deps: WithoutSpireDeps

  constructor (deps: WithoutSpireDeps) { this.#deps = deps }

  /** Changes nothing. @throws {SpiffeError} `takeover_unknown`, `trust_domain_differs`, `file_unusable`, `cluster_api_missing` */
  async look (): Promise<LookedWithoutSpire> {
    const { ours: channel, file, clock, signal, answers } = this.#deps
    const journal = await readJournal(file)
    if (journal === undefined) throw unknownTakeover(file)
    const at = clock.now()
    const [ours, here, isThere] = await Promise.all([readDomain(channel, signal), agentsHere(this.#deps), answers()])
    if (ours.bundle.trustDomain !== journal.trustDomain) {
      throw new SpiffeError('trust_domain_differs', `our server is of ${ours.bundle.trustDomain}, the state file of ${journal.trustDomain}`)
    }
    return { ours, journal, at, plan: planWithoutSpire(ours, { journal, here, answers: isThere, at }) }
  }

  /**
   * From now on our server's entries count. Nothing that an agent of SPIRE's has is taken from it, and it may still move afterwards.
   * @param options `force`: though agents are left, or entries were never copied; not though SPIRE's server answers
   * @throws {SpiffeError} `takeover_blocked`, `takeover_agents_left`, `takeover_unknown`, `takeover_over`
   */
  async finish ({ force = false }: { readonly force?: boolean } = {}): Promise<LookedWithoutSpire> {
    using scope = new DisposableStack()
    const { lock, file, ours, signal } = this.#deps
    scope.use(await lock())
    const looked = await this.look()
    const { plan, journal, at } = looked
    if (journal.phase === 'finished' || journal.phase === 'rolled_back') throw over(journal)
    const { findings, agents } = plan
    requireFree({ findings: force ? findings.filter(({ code }) => code === 'spire-answers') : findings })
    if (!force) requireNone(agents.filter(({ place }) => place === 'there'), 'takeover_agents_left', 'not here, and SPIRE renews no SVID')
    const kept = new KeptJournal(file, journal)
    const sequence = sequenceBeyond(looked.ours.bundle.sequenceNumber ?? 0n)
    await kept.save({ sequenceRaisedTo: `${sequence}` })
    await raiseSequence(ours, sequence, { signal, timeoutMs })
    await kept.save({ phase: 'finished', spireGoneAt: at })
    return await this.look()
  }

  /**
   * Whether the join token of this agent may be made anew here.
   * @throws {SpiffeError} `agent_not_found`, `takeover_blocked` where entries were never copied or SPIRE's server answers, `takeover_over`
   */
  async requireMovable (agentId: string): Promise<void> {
    const { plan, journal } = await this.look()
    if (journal.phase === 'rolled_back' || (journal.phase === 'finished' && journal.spireGoneAt === undefined)) throw over(journal)
    requireFree(plan)
    if (plan.agentsKnown && !plan.agents.some(({ id, place }) => id === agentId && place !== 'banned')) {
      throw new SpiffeError('agent_not_found', `at ${journal.lastRoundAt.toISOString()} SPIRE had no agent ${agentId} that may join`)
    }
  }
}
