import type { NodeAttestor } from '../attestation/node/node-attestor.ts'
import type { Clock } from '../runtime/clock.ts'
import type { Logger } from '../runtime/logger.ts'
import { isStop } from '../runtime/tasks.ts'
import { retryAfterMsOf } from '../rpc/rpc-error.ts'
import { SpiffeError } from '../spiffe/errors.ts'
import type { AgentConfig } from './agent-config.ts'
import type { AgentState } from './agent-state.ts'
import { joinTrustDomain } from './join.ts'

export interface RebootstrapDeps {
  readonly config: AgentConfig
  readonly attestor: NodeAttestor
  /** Since when the known bundle does not vouch for any server's certificate, of the monotonic clock; `undefined` while it does. */
  readonly untrustedSinceMs: () => number | undefined
  readonly clock: Clock
  readonly log: Logger
}

/** Clocks jump: no wait is trusted for longer. */
const longestNapMs = 5000
const shortestNapMs = 100
const firstRetryMs = 1000
const longestRetryMs = 300_000

/**
 * Waits until the servers have been others than those known for `delayMs`, and then attests this node by the bundle of first contact,
 * again and again until one of them is trusted: what the agent serves meanwhile stays as it is (spire-surface §2.2; SPIRE's agents
 * throw it away first, and end).
 */
export async function rebootstrap (deps: RebootstrapDeps, delayMs: number, signal: AbortSignal): Promise<AgentState> {
  const { config, attestor, untrustedSinceMs, clock, log } = deps
  for (let retryMs = firstRetryMs; ;) {
    await clock.sleep(Math.min(longestNapMs, Math.max(shortestNapMs, delayMs)), signal)
    const since = untrustedSinceMs()
    if (since === undefined || clock.monotonicMs() - since < delayMs) {
      retryMs = firstRetryMs
      continue
    }
    log.warn({ forMs: Math.round(clock.monotonicMs() - since) }, 'the servers are not those known here: attesting as at first contact')
    try {
      return await joinTrustDomain(config, { attestor, clock, log, again: true }, signal)
    } catch (error) {
      if (isStop(error, signal)) throw error
      const waitMs = retryAfterMsOf(error, longestRetryMs) ?? retryMs
      const told = error instanceof SpiffeError ? { code: error.code, reason: error.message, next: error.row.next } : { err: error }
      log.error({ ...told, retryInMs: waitMs }, 'the node could not attest as at first contact; what was known is served on')
      await clock.sleep(waitMs, signal)
      retryMs = Math.min(longestRetryMs, retryMs * 2)
    }
  }
}

/** The node has become an agent of other servers: a life ends with it, and another begins. */
export class Rebootstrapped extends Error {
  readonly state: AgentState

  constructor (state: AgentState) {
    super('the node was attested as at first contact')
    this.state = state
  }
}
