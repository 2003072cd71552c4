import type { Channel } from '../rpc/channel.ts'
import type { Clock } from '../runtime/clock.ts'
import { SpiffeError } from '../spiffe/errors.ts'
import { clusterService, type ConsumerProgress } from '../wire/generated/cluster.ts'
import type { OnProgress } from './apply.ts'
import { readDomain, type DomainState } from './domain-state.ts'
import { readJournal, type Journal } from './journal.ts'
import { planTakeover, type TakeoverPlan } from './plan.ts'
import { requireSpire } from './refusals.ts'
import type { Attestors } from './servable.ts'

/** Both servers of a takeover, and how they are asked. */
export interface TakeoverServers {
  /** SPIRE's server, as an administrator. */
  readonly there: Channel
  /** Our server, as an administrator. */
  readonly ours: Channel
  readonly signal: AbortSignal
  readonly onProgress?: OnProgress | undefined
}

export interface TakeoverDeps extends TakeoverServers {
  /** File of the journal. */
  readonly file: string
  /** So that of several processes one at a time makes a step: a slower one would write its journal over the other's. */
  readonly lock: () => Promise<Disposable>
  readonly clock: Clock
  /** What our agents and servers attest by. */
  readonly attestors: Attestors
}

export interface Looked {
  readonly there: DomainState
  readonly ours: DomainState
  readonly plan: TakeoverPlan
  readonly journal: Journal | undefined
  /** Before either was asked: what changed since may not be in what they said. */
  readonly at: Date
}

const timeoutMs = 10_000
/** SPIRE's agents ask every few seconds. */
const pollingMs = 30_000

/**
 * Changes nothing.
 * @throws {SpiffeError} `trust_domain_differs`, `file_unusable`, `cluster_api_missing` where ours is not ours, `takeover_spire_gone`
 */
export async function look (deps: Omit<TakeoverDeps, 'lock'>): Promise<Looked> {
  const { there: thereChannel, ours: oursChannel, file, clock, attestors, signal } = deps
  const journal = await readJournal(file)
  // Before SPIRE's server is asked: it does not answer then, and whoever waits for it is to be told.
  requireSpire(journal)
  const at = clock.now()
  const [there, ours, here] = await Promise.all([readDomain(thereChannel, signal), readDomain(oursChannel, signal), agentsHere(deps)])
  const domains = [there.bundle.trustDomain, ours.bundle.trustDomain, journal?.trustDomain ?? there.bundle.trustDomain]
  if (new Set(domains).size > 1) {
    const [spire, assay, state] = domains
    throw new SpiffeError('trust_domain_differs', `SPIRE's server is of ${spire}, ours of ${assay}, the state file of ${state}`)
  }
  return { there, ours, journal, at, plan: planTakeover(there, ours, { journal, here, attestors, at }) }
}

/** @returns IDs of agents that our server has heard of lately */
export async function agentsHere ({ ours, clock, signal }: Pick<TakeoverDeps, 'ours' | 'clock' | 'signal'>): Promise<ReadonlySet<string>> {
  const here = new Set<string>()
  for await (const { consumers } of ours.client(clusterService).watchConvergence({ once: true }, { signal, timeoutMs })) {
    for (const consumer of consumers) if (isHere(consumer, clock.now())) here.add(consumer.agentId)
  }
  return here
}

/** What an agent has it keeps in our server's books when it goes; that it is connected, or asks now and then, is another matter. */
function isHere ({ state, replicaId, seenAt }: ConsumerProgress, at: Date): boolean {
  if (state === 'acknowledged') return replicaId !== ''
  return state === 'waiting' || (state !== 'absent' && at.getTime() - Number(seenAt) < pollingMs)
}
