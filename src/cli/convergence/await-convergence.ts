import type { Clock } from '../../runtime/clock.ts'
import { formatDuration } from '../../runtime/duration.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import type { Cursor } from '../../wire/generated/agent-sync.ts'
import type { ConsumerProgress, Convergence } from '../../wire/generated/cluster.ts'
import { getStatus, watchConvergence } from '../cluster/cluster-client.ts'
import { isAway, type Servers } from '../servers.ts'
import { lacks, nameConsumers, type MustServe } from './consumers.ts'

/** Whom a change concerns, and when one of them has it. */
export interface Concern {
  /** Agents that these entries concern, before or after the change; all agents when empty. */
  readonly entryIds: readonly string[]
  readonly mustServe?: MustServe
  /** Only agents that follow services. */
  readonly services?: boolean
  /** Only agents that follow policies. */
  readonly policies?: boolean
}

export interface Waited {
  /** Where the log stood after the change; `undefined` when no server could say so. */
  readonly cursor: Cursor | undefined
  /** As they were at the end, or when last heard of. */
  readonly consumers: readonly ConsumerProgress[]
  readonly tookMs: number
  /** `undefined`: every live one has the change. Else `not_converged`, or what ended the wait before its time. */
  readonly failure: unknown
}

export interface AwaitDeps {
  readonly servers: Pick<Servers, 'ask'>
  readonly clock: Clock
  readonly signal: AbortSignal
  /** Runs whenever more is known. */
  readonly onProgress: (consumers: readonly ConsumerProgress[]) => void
}

/** The server limits how many it is asked about at once. */
const idsPerQuestion = 1_000
/** A server that hangs is found out after one of these. */
const longestRoundMs = 5_000
const callTimeoutMs = 5_000
const pauseMs = 200

/**
 * Waits until every live agent that a change concerns has it; asks whichever server answers, so that the death of one does not end the
 * wait. Never rejects: what became known is worth telling however it ends.
 * @param since where the log stood before the change
 */
export async function awaitConvergence (
  since: Cursor | undefined, { entryIds, mustServe, services, policies }: Concern, timeoutMs: number, deps: AwaitDeps
): Promise<Waited> {
  const { servers, clock, signal } = deps
  const startedMs = clock.monotonicMs()
  const untilMs = startedMs + timeoutMs
  let cursor: Cursor | undefined
  let consumers: readonly ConsumerProgress[] = []
  let failure: unknown
  try {
    const status = await persist(() => servers.ask(channel => getStatus(channel, { signal, timeoutMs: callTimeoutMs })), untilMs, deps)
    cursor = status.head
    for (const ids of groupsOf(entryIds)) {
      const others = consumers
      const show = (step: Convergence) => {
        consumers = merge(others, step.consumers, mustServe)
        deps.onProgress(consumers)
      }
      const question = { since, cursor, entryIds: ids, services, policies }
      if (!await awaitGroup(question, mustServe, untilMs, show, deps)) failure = notConverged(timeoutMs, consumers, mustServe)
    }
  } catch (error) {
    failure = isAway(error) ? nobodyAnswers(timeoutMs, error) : error
  }
  return { cursor, consumers, tookMs: Math.round(clock.monotonicMs() - startedMs), failure }
}

interface Question {
  readonly since: Cursor | undefined
  readonly cursor: Cursor | undefined
  readonly entryIds: readonly string[]
  readonly services: boolean | undefined
  readonly policies: boolean | undefined
}

/** @returns whether everybody has it; once the time is up, one look tells */
async function awaitGroup (
  question: Question, mustServe: MustServe, untilMs: number, show: (step: Convergence) => void, deps: AwaitDeps
): Promise<boolean> {
  const { servers, clock, signal } = deps
  const round = async () => servers.ask(channel => {
    const leftMs = Math.ceil(Math.min(untilMs - clock.monotonicMs(), longestRoundMs))
    const request = leftMs > 0 ? { ...question, timeoutMs: leftMs } : { ...question, once: true }
    return watchConvergence(channel, request, { signal, timeoutMs: Math.max(0, leftMs) + callTimeoutMs }, show)
  })
  for (;;) {
    const last = await persist(round, untilMs, deps)
    if (last.converged && !last.consumers.some(consumer => lacks(consumer, mustServe))) return true
    if (clock.monotonicMs() >= untilMs) return false
    await clock.sleep(pauseMs, signal)
  }
}

/** Asks again while nobody answers, until the time is up. */
async function persist<T> (ask: () => Promise<T>, untilMs: number, { clock, signal }: AwaitDeps): Promise<T> {
  for (;;) {
    try {
      return await ask()
    } catch (error) {
      if (!isAway(error) || clock.monotonicMs() >= untilMs) throw error
    }
    await clock.sleep(pauseMs, signal)
  }
}

function groupsOf (ids: readonly string[]): readonly (readonly string[])[] {
  const groups = []
  for (let start = 0; start < ids.length; start += idsPerQuestion) groups.push(ids.slice(start, start + idsPerQuestion))
  return groups.length === 0 ? [[]] : groups
}

/** An agent that lacks one part of a change lacks the change. */
function merge (
  others: readonly ConsumerProgress[], now: readonly ConsumerProgress[], mustServe: MustServe
): readonly ConsumerProgress[] {
  const merged = new Map(others.map(consumer => [consumer.agentId, consumer]))
  for (const consumer of now) {
    const before = merged.get(consumer.agentId)
    if (before === undefined || !lacks(before, mustServe)) merged.set(consumer.agentId, consumer)
  }
  return [...merged.values()]
}

function notConverged (timeoutMs: number, consumers: readonly ConsumerProgress[], mustServe: MustServe): SpiffeError {
  const live = consumers.filter(({ state }) => state !== 'absent')
  const laggards = live.filter(consumer => lacks(consumer, mustServe))
  const who = `${laggards.length} of ${live.length} live agents ${laggards.length === 1 ? 'does' : 'do'} not have the change`
  const names = laggards.length === 0 ? '' : `: ${nameConsumers(laggards, mustServe)}`
  return new SpiffeError('not_converged', `after ${formatDuration(timeoutMs)}, ${who}${names}`)
}

function nobodyAnswers (timeoutMs: number, error: unknown): SpiffeError {
  const why = (error as Error).message
  return new SpiffeError('not_converged', `after ${formatDuration(timeoutMs)} it is not known who has the change: ${why}`, { cause: error })
}
