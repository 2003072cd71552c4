import { RpcError } from '../rpc/rpc-error.ts'
import type { Clock } from '../runtime/clock.ts'

export type WatchEvent<T> =
  /** The whole state: what it leaves out is gone, whatever came before (WLAPI-10). */
  | { readonly kind: 'state', readonly response: T }
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
 * Keeps a stream of the Workload API open as a workload should (Workload API §4.2, App. A): one that served for a while is reopened at
 * once, one that fails sooner after pauses that double up to half a minute, with jitter. Ends by the signal only, or by what trying again
 * cannot change: INVALID_ARGUMENT (WLE-15), UNIMPLEMENTED (WLE-16).
 * @param open a new stream
 */
export async function * watchStream<T> (
  open: () => AsyncIterable<T>, { clock, random, signal }: WatchDeps
): AsyncGenerator<WatchEvent<T>, never, undefined> {
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
