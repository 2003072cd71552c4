import type { Clock } from '../../runtime/clock.ts'
import { RpcError } from '../../rpc/rpc-error.ts'
import type { X509SVIDResponse } from '../../wire/generated/workload.ts'

export type WatchEvent =
  /** The whole state: what it leaves out is gone, whatever came before (WLAPI-10). */
  | { readonly kind: 'state', readonly response: X509SVIDResponse }
  /** The stream ended, without an error when the agent closed it. */
  | { readonly kind: 'lost', readonly error: RpcError | undefined, readonly retryInMs: number }

export interface WatchDeps {
  readonly clock: Clock
  /** 0 to 1. */
  readonly random: () => number
  readonly signal: AbortSignal
}

const firstPauseMs = 1_000
const longestPauseMs = 30_000

/**
 * Keeps a FetchX509SVID stream open as a workload should (Workload API §4.2, App. A): a stream that served for a while is reopened at once,
 * one that fails sooner after pauses that double up to half a minute, with jitter. Ends by the signal only, or by what trying again cannot
 * change: INVALID_ARGUMENT (WLE-15), UNIMPLEMENTED (WLE-16).
 * @param open a new stream
 */
export async function * watchX509Svids (
  open: () => AsyncIterable<X509SVIDResponse>, { clock, random, signal }: WatchDeps
): AsyncGenerator<WatchEvent, never, undefined> {
  let pauseMs = firstPauseMs
  for (;;) {
    let servedSinceMs: number | undefined
    let error: RpcError | undefined
    try {
      for await (const response of open()) {
        servedSinceMs ??= clock.monotonicMs()
        yield { kind: 'state', response }
      }
    } catch (thrown) {
      if (!(thrown instanceof RpcError) || isFinal(thrown)) throw thrown
      error = thrown
    }
    signal.throwIfAborted()
    const served = servedSinceMs !== undefined && clock.monotonicMs() - servedSinceMs >= firstPauseMs
    const retryInMs = served ? 0 : Math.round(pauseMs * (0.75 + random() / 2))
    pauseMs = served ? firstPauseMs : Math.min(longestPauseMs, pauseMs * 2)
    yield { kind: 'lost', error, retryInMs }
    await clock.sleep(retryInMs, signal)
  }
}

function isFinal ({ status }: RpcError): boolean {
  return status === 'INVALID_ARGUMENT' || status === 'UNIMPLEMENTED'
}
