import { watch } from 'node:fs'
import type { Clock } from '../../runtime/clock.ts'
import { nap } from '../../runtime/nap.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import { attachBundles } from './attach-bundles.ts'
import { readPolicyFiles, type PolicyFile } from './policy-files.ts'

export type PolicyReading = { readonly files: readonly PolicyFile[] } | { readonly failure: SpiffeError }

/** Who writes many files is given so long to be done. */
const settleMs = 200
/** Some file systems tell of no change. */
const lookEveryMs = 2_000

/** The files as they are now, then as they are after each change that has come to rest. Throws the signal's reason when it aborts. */
export async function * watchPolicyFiles (paths: readonly string[], clock: Clock, signal: AbortSignal): AsyncGenerator<PolicyReading> {
  using nudges = openNudges(paths)
  for (let last: string | undefined; ;) {
    const { changed } = nudges
    const [reading, content] = await settled(paths, clock, signal)
    if (content !== last) {
      last = content
      yield reading
    }
    await nap(clock, lookEveryMs, changed, signal)
  }
}

/** What two looks in a row have found. */
async function settled (paths: readonly string[], clock: Clock, signal: AbortSignal): Promise<[PolicyReading, string]> {
  for (let before: string | undefined; ;) {
    const reading = await look(paths, signal)
    const content = JSON.stringify('files' in reading ? reading.files : reading.failure.message)
    if (content === before) return [reading, content]
    before = content
    await clock.sleep(settleMs, signal)
  }
}

async function look (paths: readonly string[], signal: AbortSignal): Promise<PolicyReading> {
  try {
    return { files: await attachBundles(await readPolicyFiles(paths), { opaPath: undefined }, signal) }
  } catch (error) {
    if (error instanceof SpiffeError) return { failure: error }
    throw error
  }
}

interface Nudges extends Disposable {
  /** Settles after the next change. */
  readonly changed: Promise<void>
}

function openNudges (paths: readonly string[]): Nudges {
  let next = Promise.withResolvers<void>()
  const wake = () => {
    next.resolve()
    next = Promise.withResolvers<void>()
  }
  const watchers = paths.flatMap(path => {
    try {
      // Without them it is looked all the same, a little later.
      return [watch(path, { recursive: true, persistent: false }, wake).on('error', () => {})]
    } catch {
      return []
    }
  })
  return {
    get changed () { return next.promise },
    [Symbol.dispose] () { for (const watcher of watchers) watcher.close() }
  }
}
