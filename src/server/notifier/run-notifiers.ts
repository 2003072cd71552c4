import type { Notifier } from '../../plugins/notifier.ts'
import type { Bundle } from '../../spiffe/bundle.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import type { BundlePlace } from '../bundle-publisher/bundle-publisher.ts'
import { publishBundle, type PublishBundleDeps } from '../bundle-publisher/publish-bundle.ts'

export interface RunNotifiersDeps extends Omit<PublishBundleDeps, 'places'> {
  readonly notifiers: readonly Notifier[]
}

/**
 * Tells all notifiers of the bundle that there is, then each of what changes, until the signal aborts.
 * @throws {SpiffeError} what one refused the first with, the notifier named: then this server is not to go on, as SPIRE's does not
 */
export async function runNotifiers ({ notifiers, ...deps }: RunNotifiersDeps, signal: AbortSignal): Promise<void> {
  const bundle = deps.ownBundle.value
  const outcomes = await Promise.allSettled(notifiers.map(async notifier => await notifier.bundleLoaded?.(bundle, signal)))
  signal.throwIfAborted()
  for (const [index, outcome] of outcomes.entries()) {
    if (outcome.status === 'rejected') throw naming(notifiers[index] as Notifier, outcome.reason)
  }
  await publishBundle({ ...deps, places: notifiers.flatMap(notifier => placeOf(notifier, bundle)) }, signal)
}

/** Changes are told as to any other place that is kept up to date. */
function placeOf (notifier: Notifier, loaded: Bundle): BundlePlace[] {
  const { name, isShared, againMs } = notifier
  if (notifier.bundleUpdated === undefined) return []
  let known = notifier.bundleLoaded === undefined ? undefined : loaded
  return [{
    name: `Notifier "${name}"`,
    isOfEachServer: isShared !== true,
    ...againMs === undefined ? {} : { againMs },
    async publish ({ bundle }, signal) {
      const isKnown = bundle === known
      known = undefined
      if (!isKnown) await notifier.bundleUpdated?.(bundle, signal)
    }
  }]
}

function naming ({ name }: Notifier, error: unknown): unknown {
  if (!(error instanceof SpiffeError)) return error
  return new SpiffeError(error.code, `Notifier "${name}": ${error.message}`, { cause: error })
}
