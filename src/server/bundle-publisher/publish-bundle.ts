import type { Clock } from '../../runtime/clock.ts'
import type { Logger } from '../../runtime/logger.ts'
import { isStop, runTasks } from '../../runtime/tasks.ts'
import type { Bundle } from '../../spiffe/bundle.ts'
import type { BundlePlace, OwnBundleNow } from './bundle-publisher.ts'

export interface PublishBundleDeps {
  readonly places: readonly BundlePlace[]
  readonly ownBundle: { readonly value: Bundle }
  /** Whether this replica does the trust domain's chores; one that is behind must not write over what another wrote. */
  readonly isHolder: () => boolean
  readonly sign: OwnBundleNow['sign']
  /** Runs each time a place was written. */
  readonly onPublished?: ((place: string) => void) | undefined
  readonly clock: Pick<Clock, 'sleep' | 'monotonicMs'>
  readonly log: Logger
}

const lookEveryMs = 500
const longestPauseMs = 60_000
const usualAgainMs = 300_000

/**
 * Keeps each place up to date with the trust domain's bundle until the signal aborts. A place that fails is tried again, with growing
 * pauses, and holds up no other.
 */
export async function publishBundle (deps: PublishBundleDeps, signal: AbortSignal): Promise<void> {
  await runTasks(signal, deps.places.map(place => (signal: AbortSignal) => keepPublished(place, deps, signal)))
}

async function keepPublished (
  place: BundlePlace, { ownBundle, isHolder, sign, onPublished, clock, log }: PublishBundleDeps, signal: AbortSignal
): Promise<void> {
  let published: { readonly bundle: Bundle, readonly atMs: number } | undefined
  for (let failures = 0; ; ) {
    const bundle = ownBundle.value
    if (place.isOfEachServer !== true && !isHolder()) published = undefined
    else if (bundle.x509Authorities.length > 0 && isDue(bundle)) {
      try {
        await place.publish({ bundle, sign }, signal)
        onPublished?.(place.name)
        const facts = { place: place.name, sequence: String(bundle.sequenceNumber) }
        if (failures > 0 || published?.bundle !== bundle) log.info(facts, 'bundle published')
        published = { bundle, atMs: clock.monotonicMs() }
        failures = 0
      } catch (error) {
        if (isStop(error, signal)) throw error
        failures++
        log.warn({ err: error, place: place.name, failures }, 'bundle could not be published; trying again')
      }
    }
    await clock.sleep(failures === 0 ? lookEveryMs : Math.min(longestPauseMs, 1_000 * 2 ** (failures - 1)), signal)
  }

  function isDue (bundle: Bundle): boolean {
    return published?.bundle !== bundle || clock.monotonicMs() - published.atMs >= (place.againMs ?? usualAgainMs)
  }
}
