import { policyFileChanges } from '../../authz/policy-files/policy-file-changes.ts'
import { readPolicyFiles, type PolicyFile } from '../../authz/policy-files/read-policy-files.ts'
import type { Clock } from '../../runtime/clock.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import { attachBundles } from './attach-bundles.ts'

export type PolicyReading = { readonly files: readonly PolicyFile[] } | { readonly failure: SpiffeError }

/** The files as they are now, with their bundles, then as they are after each change. Throws the signal's reason when it aborts. */
export async function * watchPolicyFiles (paths: readonly string[], clock: Clock, signal: AbortSignal): AsyncGenerator<PolicyReading> {
  /** What documents name counts as they do. */
  const bundles = new Set<string>()
  let last: string | undefined
  for await (const isStill of policyFileChanges(paths, clock, signal, { besides: () => bundles })) {
    bundles.clear()
    const reading = await look(paths, path => bundles.add(path), signal)
    if (!await isStill()) continue
    const content = JSON.stringify('files' in reading ? reading.files : reading.failure.message)
    // Files that were written again as they were.
    if (content === last) continue
    last = content
    yield reading
  }
}

async function look (paths: readonly string[], onNamed: (path: string) => void, signal: AbortSignal): Promise<PolicyReading> {
  try {
    return { files: await attachBundles(await readPolicyFiles(paths), { opaPath: undefined, onNamed }, signal) }
  } catch (error) {
    if (error instanceof SpiffeError) return { failure: error }
    throw error
  }
}
