import { z } from 'zod'
import { checkValue } from '../../runtime/config-file.ts'
import { parsedBy } from '../../runtime/config-schema.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import { matches, type Match } from '../policy/match.ts'
import { parseIdMatch, parseTextMatch } from '../policy/match-text.ts'
import { apiVersion } from '../policy/policy-schema.ts'
import { documentsOfKind, malformed, type PolicyText } from '../policy/read-policies.ts'
import type { FlipReport } from './compare-recorded.ts'
import type { Flip } from './flip-list.ts'

const text = z.string().min(1, 'must not be empty').max(2_048)
/** `none`: no ID. */
const id = z.union([z.literal('none'), z.literal('*'), parsedBy(parseIdMatch)])

const signoffDocument = z.strictObject({
  apiVersion: z.literal(apiVersion),
  kind: z.literal('FlipSignoff'),
  /** Of the policies that were reviewed, as `assay policy diff` prints it: what was signed holds for nothing else. */
  revision: z.string().regex(/^[0-9a-f]{64}$/, 'must be the revision that assay policy diff prints'),
  reviewers: z.array(text).min(1, 'must not be empty'),
  comment: text.optional(),
  /** Requests that could not be compared are fine too. */
  acceptUncompared: z.boolean().default(false),
  flips: z.array(z.strictObject({
    source: id,
    destination: id,
    operation: parsedBy(parseTextMatch),
    before: text,
    after: text
  })).max(100_000)
})

export type Signoff = z.output<typeof signoffDocument>

/** @throws {SpiffeError} `policy_malformed`, also for a text without such a document */
export function readSignoff (source: PolicyText): readonly Signoff[] {
  const documents = documentsOfKind(source, 'FlipSignoff')
  const none = { where: source.name, key: 'kind', rule: `has no document of the kind FlipSignoff of ${apiVersion}` }
  if (documents.length === 0) throw malformed([none])
  const readings = documents.map(document => checkValue(signoffDocument, document.raw, path => document.where(path)))
  const problems = readings.flatMap(reading => reading.problems ?? [])
  if (problems.length > 0) throw malformed(problems)
  return readings.flatMap(({ value }) => value === undefined ? [] : [value])
}

/** What of a report nobody has signed. */
export interface Unsigned {
  readonly flips: readonly Flip[]
  /** What else is missing, in words. */
  readonly reasons: readonly string[]
}

export function unsigned (report: FlipReport, signoffs: readonly Signoff[]): Unsigned {
  const { after, flips, untold, masked, unreadable } = report
  const valid = signoffs.filter(({ revision }) => revision === after)
  const uncompared = masked + unreadable
  return {
    flips: flips.filter(flip => !valid.some(signoff => signoff.flips.some(signed => isMeant(signed, flip)))),
    reasons: [
      ...valid.length > 0 ? [] : [`nothing is signed for the revision ${after}`],
      ...untold > 0 ? [`${untold} requests flip that the list had no room for`] : [],
      ...uncompared > 0 && !valid.some(({ acceptUncompared }) => acceptUncompared)
        ? [`${uncompared} requests could not be compared, and acceptUncompared is not set`] : []
    ]
  }
}

/**
 * Without flips nothing needs to be signed.
 * @throws {SpiffeError} `policy_not_signed_off`, naming the first flips that nobody has signed
 */
export function requireSignoff (report: FlipReport, signoffs: readonly Signoff[]): void {
  const { flips, reasons } = unsigned(report, signoffs)
  const nothing = report.flipped === 0 && report.masked + report.unreadable === 0
  if (nothing || (flips.length === 0 && reasons.length === 0)) return
  const first = flips.slice(0, 5).map(({ source = 'none', destination = 'none', operation, before, after }) =>
    `${source} to ${destination}, ${operation}: ${before} becomes ${after}`)
  const more = flips.length > first.length ? [`and ${flips.length - first.length} more`] : []
  throw new SpiffeError('policy_not_signed_off', [...reasons, ...first, ...more].join('\n'), { details: { flips: flips.length } })
}

function isMeant ({ source, destination, operation, before, after }: Signoff['flips'][number], flip: Flip): boolean {
  return before === flip.before && after === flip.after && matches(operation, flip.operation) &&
    isId(source, flip.source) && isId(destination, flip.destination)
}

function isId (signed: 'none' | '*' | Match, id: string | undefined): boolean {
  if (signed === '*') return true
  return signed === 'none' ? id === undefined : id !== undefined && matches(signed, id)
}
