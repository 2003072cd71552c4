import { systemClock } from '../../runtime/clock.ts'
import { codeOf } from '../../spiffe/errors.ts'
import type { GetStatusResponse } from '../../wire/generated/cluster.ts'
import { authorityCalls, type AuthorityKind } from '../authority/authority-calls.ts'
import { authorityConcerns } from '../authority/authority-concerns.ts'
import { passRevokeGate, type Breaks } from '../authority/revoke-gate.ts'
import { getStatus } from '../cluster/cluster-client.ts'
import type { Waited } from '../convergence/await-convergence.ts'
import { waitUntilTaken } from '../convergence/wait.ts'
import { isAway, type Servers } from '../servers.ts'
import type { Terminal } from '../terminal.ts'
import { isSameStep, nextStep, slotsOf, type Goal, type RotationStep } from './rotation-plan.ts'
import { breaksThoseBelow, notAsked } from './servers-below.ts'

export interface RotationOptions {
  readonly kind: AuthorityKind
  readonly goal: Goal
  /** For each step to be made and to reach every live agent. */
  readonly timeoutMs: number
  /** Go on though live agents lag behind, or servers below were not asked, and break them. */
  readonly force: boolean
  /** Servers below, which nobody here can wait for. */
  readonly below: readonly string[]
  /** Somebody has looked there: what was done before this run has arrived. */
  readonly downstreamReady: boolean
}

export interface DoneStep {
  readonly verb: RotationStep['verb']
  readonly authorityId: string
  /** From the command to the server until the last agent had it. */
  readonly tookMs: number
  readonly waited: Waited
  /** Of a revocation. */
  readonly breaks?: Breaks | undefined
}

export interface RotationDeps {
  readonly servers: Servers
  readonly terminal: Terminal
  /** Runs after each step. */
  readonly onStep: (step: DoneStep) => void
}

const callTimeoutMs = 10_000
const pauseMs = 200

/** @throws whatever a server refuses with, once it is given again and again until `timeoutMs` has passed where a retry can help */
export function readStatus (servers: Servers, { signal }: Terminal): Promise<GetStatusResponse> {
  return servers.ask(channel => getStatus(channel, { signal, timeoutMs: callTimeoutMs }))
}

/**
 * Makes one step after the other, each once every live agent has the one before, until the goal is reached.
 * @throws {SpiffeError} `not_converged`, `authority_relied_on`, `servers_below` before a step that would break those below; what was done
 * stays, and the next run goes on from there
 */
export async function rotate (options: RotationOptions, deps: RotationDeps): Promise<void> {
  const { kind, goal, force, below, downstreamReady } = options
  const { servers, terminal, onStep } = deps
  let last: RotationStep | undefined
  for (;;) {
    const step = nextStep(slotsOf((await readStatus(servers, terminal)).authorities, kind), goal)
    if (step === undefined) return
    // Whoever says that they are ready has looked before this run, and not between its steps.
    const asked = force || below.length === 0 || (downstreamReady && last === undefined)
    if (!asked && breaksThoseBelow(kind, step)) throw notAsked(below, kind, step)
    if (isSameStep(step, last)) throw new Error(`the server made this step, and the next one is the same: ${JSON.stringify(step)}`)
    onStep(await makeStep(step, last === undefined, options, deps))
    last = step
  }
}

async function makeStep (step: RotationStep, first: boolean, options: RotationOptions, deps: RotationDeps): Promise<DoneStep> {
  const { force, timeoutMs } = options
  const { servers, terminal } = deps
  // An earlier run, or the schedule, may have made what comes before this step a moment ago.
  if (first && step.verb !== 'prepare' && step.verb !== 'revoke') await reach('prepare', options, deps)
  const breaks = step.verb === 'revoke' ? await passRevokeGate(servers, terminal, { timeoutMs, force }) : undefined
  const startedMs = systemClock.monotonicMs()
  const authorityId = await tellServer(step, options, deps)
  const waited = await reach(step.verb, options, deps)
  return { verb: step.verb, authorityId, tookMs: Math.round(systemClock.monotonicMs() - startedMs), waited, breaks }
}

/** Until every live agent has what the verb changed. */
async function reach (
  verb: RotationStep['verb'], { timeoutMs, force }: RotationOptions, { servers, terminal }: RotationDeps
): Promise<Waited> {
  const waited = await waitUntilTaken(servers, terminal, { since: undefined, concern: authorityConcerns[verb], timeoutMs })
  if (waited.failure !== undefined && !(force && codeOf(waited.failure) === 'not_converged')) throw waited.failure
  return waited
}

/** Makes one step though the server that is told may die of it: whether it was made is then read from the authorities themselves. */
async function tellServer (
  step: RotationStep, { kind, goal, timeoutMs }: RotationOptions, { servers, terminal }: RotationDeps
): Promise<string> {
  const { signal } = terminal
  const untilMs = systemClock.monotonicMs() + timeoutMs
  for (let told = false; ; told = true) {
    try {
      if (told) {
        const slots = slotsOf((await readStatus(servers, terminal)).authorities, kind)
        if (!isSameStep(nextStep(slots, goal), step)) return step.verb === 'prepare' ? slots.prepared ?? '' : step.authorityId
      }
      const state = await servers.change(channel => {
        const calls = authorityCalls(channel, kind, { signal, timeoutMs: callTimeoutMs })
        return step.verb === 'prepare' ? calls.prepare() : calls[step.verb](step.authorityId)
      })
      return state?.authorityId ?? ''
    } catch (error) {
      if (!isAway(error) || systemClock.monotonicMs() >= untilMs) throw error
    }
    await systemClock.sleep(pauseMs, signal)
  }
}
