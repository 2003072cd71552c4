import type { Clock } from '../../runtime/clock.ts'
import type { Logger } from '../../runtime/logger.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import { checkSelector, formatSelector, normalizeSelectors, type Selector } from '../../spiffe/selector.ts'
import type { AttestationMetrics } from './attestation-metrics.ts'
import type { PinnedProcess } from './pinned-process.ts'
import type { WorkloadAttestor } from './workload-attestor.ts'

export interface AttestWorkloadDeps {
  readonly attestors: readonly WorkloadAttestor[]
  readonly clock: Clock
  readonly log: Logger
  readonly metrics?: AttestationMetrics | undefined
  /** For all attestors together; 10 s by default, or as long as the most patient of them needs. */
  readonly timeoutMs?: number
}

/**
 * Asks all attestors at once. One that fails fails the attestation: a workload never gets an identity for fewer facts than hold for it.
 * @returns normalised
 * @throws {SpiffeError} `caller_gone`; `workload_attestation_failed`, which names the attestor and leaves the reason to the log.
 * When the signal aborts, its reason.
 */
export async function attestWorkload (process: PinnedProcess, deps: AttestWorkloadDeps, signal: AbortSignal): Promise<readonly Selector[]> {
  const { attestors, clock, metrics } = deps
  const timeoutMs = deps.timeoutMs ?? Math.max(10_000, ...attestors.map(({ patienceMs = 0 }) => patienceMs))
  const log = deps.log.child({ pid: process.pid })
  const start = clock.monotonicMs()
  const ending = new AbortController()
  const inner = AbortSignal.any([signal, ending.signal])
  try {
    signal.throwIfAborted()
    process.check()
    clock.sleep(timeoutMs, inner).then(() => ending.abort(new Timeout(timeoutMs)), () => {})
    const found = normalizeSelectors((await Promise.all(attestors.map(attestor => ask(attestor)))).flat())
    process.check()
    const durationMs = clock.monotonicMs() - start
    metrics?.workload('ok', found.length, durationMs)
    log.debug({ selectors: found.map(formatSelector), durationMs }, 'workload attested')
    return found
  } catch (error) {
    metrics?.workload('failed', 0, clock.monotonicMs() - start, error)
    throw error
  } finally {
    ending.abort()
  }

  async function ask (attestor: WorkloadAttestor): Promise<readonly Selector[]> {
    const begun = clock.monotonicMs()
    try {
      const found = await unlessAborted(attestor.attest(process, inner), inner)
      for (const selector of found) checkOwn(selector, attestor)
      const durationMs = clock.monotonicMs() - begun
      metrics?.attestor(attestor.name, 'ok', durationMs)
      log.trace({ attestor: attestor.name, selectors: found.map(formatSelector), durationMs }, 'attestor answered')
      return found
    } catch (error) {
      metrics?.attestor(attestor.name, 'failed', clock.monotonicMs() - begun, error)
      // Of an ended process nothing can be read: then that is the reason.
      process.check()
      if (error instanceof SpiffeError && error.code === 'caller_gone') throw error
      if (signal.aborted) throw signal.reason
      const timeout = inner.reason instanceof Timeout ? inner.reason : undefined
      // A sibling has failed and is the reason.
      if (inner.aborted && timeout === undefined) throw error
      log.warn({ attestor: attestor.name, err: error }, 'workload attestor failed')
      const reason = timeout?.message ?? 'see the agent\'s log'
      const what = `workload attestation failed: attestor ${attestor.name}: ${reason}`
      throw new SpiffeError('workload_attestation_failed', what, { cause: error })
    }
  }
}

class Timeout extends Error {
  constructor (timeoutMs: number) {
    super(`no answer within ${timeoutMs / 1000} s`)
    this.name = 'Timeout'
  }
}

/** An attestor speaks for its own type only. */
function checkOwn (selector: Selector, { name }: WorkloadAttestor): void {
  checkSelector(selector)
  if (selector.type !== name) throw new SpiffeError('selector_malformed', `attestor ${name} gave a selector of type ${selector.type}`)
}

/** For work that may not heed the signal itself. */
function unlessAborted<T> (work: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const stop = () => reject(signal.reason as Error)
    if (signal.aborted) stop()
    signal.addEventListener('abort', stop, { once: true })
    work.then(resolve, reject).finally(() => signal.removeEventListener('abort', stop))
  })
}
