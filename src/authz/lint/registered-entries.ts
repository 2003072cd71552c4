import { z } from 'zod'
import { checkValue, formatProblems } from '../../runtime/config-file.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import { spiffeIdOf, type SpiffeId } from '../../spiffe/spiffe-id.ts'
import { parseTrustDomain } from '../../spiffe/trust-domain.ts'
import type { SelectorDirectory } from '../policy/policy-set.ts'

/** Who is registered, as far as policies ask. */
export interface RegisteredEntry {
  readonly id: SpiffeId
  /** `type:value` */
  readonly selectors: ReadonlySet<string>
}

const entryList = z.looseObject({
  entries: z.array(z.looseObject({
    spiffe_id: z.looseObject({ trust_domain: z.string(), path: z.string().default('') }),
    selectors: z.array(z.looseObject({ type: z.string(), value: z.string() })).default([])
  })).default([])
})

/** Reads what `assay entry show -output json` prints. @param name for messages @throws {SpiffeError} `file_unusable` */
export function parseEntries (name: string, raw: unknown): readonly RegisteredEntry[] {
  const reading = checkValue(entryList, raw, () => name)
  if (reading.problems !== undefined) throw new SpiffeError('file_unusable', formatProblems(reading.problems.slice(0, 20)))
  return reading.value.entries.map(({ spiffe_id: { trust_domain: domain, path }, selectors }) => ({
    id: spiffeIdOf(parseTrustDomain(domain), path),
    selectors: new Set(selectors.map(({ type, value }) => `${type}:${value}`))
  }))
}

export function directoryOf (entries: readonly RegisteredEntry[]): SelectorDirectory {
  return wanted => new Set(entries.filter(({ selectors }) => wanted.every(selector => selectors.has(selector))).map(({ id }) => id))
}
