import type { BundleEndpoint } from '../../spiffe/bundle-endpoint.ts'
import type { Bundle } from '../../spiffe/bundle.ts'
import { fetchDocument, type FetchDeps, type LastFetch } from './fetch-document.ts'
import { readFetched } from './read-fetched.ts'

export interface FetchBundleDeps extends FetchDeps {
  /** What the last fetch gave: not sent again unless it has changed. */
  readonly last?: FetchedBundle | undefined
}

/** Its URL is where it was in the end. Never asked first: each fetch begins at the configured URL (FED-20). */
export interface FetchedBundle extends LastFetch {
  readonly bundle: Bundle
  /** Of keys that cannot be used, the first few: for the log. */
  readonly skipped: readonly string[]
  /** Whether the endpoint only said that `last` is still the newest. */
  readonly unchanged: boolean
}

const mostNotes = 10

/**
 * Fetches a partner's bundle (Federation §5.2). Nothing of it is stored or believed here.
 * @throws {SpiffeError} as `fetchDocument`; `fetched_bundle_malformed`, `fetched_bundle_too_large`
 */
export async function fetchBundle (endpoint: BundleEndpoint, deps: FetchBundleDeps, signal: AbortSignal): Promise<FetchedBundle> {
  const { last } = deps
  const skipped: string[] = []
  const note = (text: string) => { if (skipped.length < mostNotes) skipped.push(text) }
  const { url, etag, content: bundle } = await fetchDocument(endpoint, {
    accept: 'application/json', last, read: (bytes, limits) => readFetched(bytes, endpoint.trustDomain, limits, note)
  }, deps, signal)
  if (bundle !== undefined) return { bundle, url, etag, skipped, unchanged: false }
  // Only who showed a mark is told that nothing has changed.
  return { ...last as FetchedBundle, unchanged: true }
}
