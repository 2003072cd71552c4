import type { Clock } from '../../runtime/clock.ts'
import type { Logger } from '../../runtime/logger.ts'
import type { SignatureVerification } from '../rego/bundle-signature.ts'
import { FileSource } from '../rego/file-source.ts'
import { HttpSource } from '../rego/http-source.ts'
import { defaultLimits, openRego, type Rego } from '../rego/open-rego.ts'

/** Bundles of Rego by name, each a path or an `http(s):` URL. */
export interface BundlesConfig {
  readonly sources: Readonly<Record<string, string>>
  /** The program `opa`, for folders; `undefined`: folders are refused. */
  readonly opaPath?: string | undefined
  /** What is asked of folders. */
  readonly entrypoints: readonly string[]
  /** `undefined`: unsigned bundles are taken. */
  readonly verification?: SignatureVerification | undefined
}

/** Follows them until it is disposed of; what cannot be had or used is logged, and the one before goes on. */
export function openBundles (
  { sources, opaPath, entrypoints, verification }: BundlesConfig, { clock, log }: { readonly clock: Clock, readonly log: Logger }
): Promise<Rego> {
  const sourceOf = (from: string) => /^https?:/.test(from)
    ? new HttpSource({ url: from, clock, random: Math.random })
    : new FileSource({ path: from, build: { opaPath, entrypoints } })
  return openRego({
    bundles: Object.fromEntries(Object.entries(sources).map(([name, from]) => [name, { source: sourceOf(from), verification }])),
    limits: defaultLimits,
    clock,
    onProblem: (bundle, error) => log.error({ bundle, reason: (error as Error).message }, 'a bundle cannot be used: the one before goes on')
  })
}
