import type { Clock } from '../../runtime/clock.ts'
import type { Logger } from '../../runtime/logger.ts'
import { nap } from '../../runtime/nap.ts'
import { isStop, runTasks } from '../../runtime/tasks.ts'
import type { Bundle } from '../../spiffe/bundle.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import type { PublicationPlace } from './publication-place.ts'

export interface Publication {
  readonly place: PublicationPlace
  /** Between one and the next where nothing has changed. */
  readonly everyMs: number
  readonly contentType: string
  /** What is put there, made of the bundle that is the newest now. */
  readonly make: (bundle: Bundle) => Promise<string>
}

export interface PublishDeps {
  readonly bundle: { readonly value: Bundle, watch (signal: AbortSignal): AsyncIterable<Bundle> }
  /** Whether this server does the trust domain's chores: what all could write one does, since one that is cut off could set it back. */
  readonly isHolder: () => boolean
  readonly onPublished: (place: string, at: Date) => void
  readonly clock: Clock
  readonly log: Logger
}

const timeoutMs = 30_000
const firstRetryMs = 5_000
/** How soon a server notices that the chores are its own now. */
const lookEveryMs = 1_000

/**
 * Puts the own bundle where partners look for it: now, after each change, and regularly, since what is signed expires. What fails is tried
 * again, sooner than the next time; what was put there before stays.
 */
export async function publishBundle (publications: readonly Publication[], deps: PublishDeps, signal: AbortSignal): Promise<void> {
  await runTasks(signal, publications.map(one => (signal: AbortSignal) => keep(one, deps, signal)))
}

async function keep (publication: Publication, deps: PublishDeps, signal: AbortSignal): Promise<void> {
  const { bundle, isHolder, clock } = deps
  await using place = publication.place
  let woken = Promise.withResolvers<void>()
  let tried: Bundle | undefined
  let isThere = false
  let trouble: string | undefined
  let retryMs = firstRetryMs
  await runTasks(signal, [
    async signal => { for await (const now of bundle.watch(signal)) if (now !== tried) woken.resolve() },
    async signal => {
      for (;;) {
        woken = Promise.withResolvers()
        await nap(clock, await turn(signal), woken.promise, signal)
      }
    }
  ])

  /** @returns when the next one is due, in milliseconds */
  async function turn (signal: AbortSignal): Promise<number> {
    if (place.isShared && !isHolder()) return lookEveryMs
    tried = bundle.value
    try {
      await putThere(publication, tried, signal)
    } catch (error) {
      if (isStop(error, signal) || !(error instanceof SpiffeError)) throw error
      if (error.message !== trouble) deps.log.warn({ err: error, place: place.name }, 'the bundle could not be published; trying again')
      trouble = error.message
      const waitMs = Math.min(retryMs, publication.everyMs)
      retryMs = waitMs * 2
      return waitMs
    }
    if (trouble !== undefined || !isThere) deps.log.info({ place: place.name }, 'the bundle is published')
    isThere = true
    trouble = undefined
    retryMs = firstRetryMs
    deps.onPublished(place.name, clock.now())
    return publication.everyMs
  }
}

async function putThere ({ place, make, contentType }: Publication, bundle: Bundle, signal: AbortSignal): Promise<void> {
  const late = AbortSignal.timeout(timeoutMs)
  const text = await make(bundle)
  try {
    await place.put(text, contentType, AbortSignal.any([signal, late]))
  } catch (error) {
    signal.throwIfAborted()
    throw error
  }
}
