import { sameBundle } from '../../spiffe/bundle-change.ts'
import type { Bundle } from '../../spiffe/bundle.ts'
import { SpiffeError } from '../../spiffe/errors.ts'

/** Who offers: the partner itself, or who has a copy, which may be an old one. */
export type OfferedBy = 'endpoint' | 'copy'

export interface Judgement {
  /** False: what is stored says the same. */
  readonly replaces: boolean
  /** What the partner does against the standard, though it harms nobody but itself. */
  readonly warning?: string
}

/**
 * Whether an offered bundle takes the stored one's place. Freshness goes by sequence number, else the last retrieved wins (FED-07); a lower
 * number is refused (AMB-17). A copy brings only what is provably newer: it could bring back what the partner has revoked.
 * @throws {SpiffeError} `fetched_bundle_older`
 */
export function judgeUpdate (stored: Bundle | undefined, offered: Bundle, by: OfferedBy): Judgement {
  if (stored === undefined) return { replaces: true }
  if (sameBundle(stored, offered)) return { replaces: false }
  const [before, now] = [stored.sequenceNumber, offered.sequenceNumber]
  if (before !== undefined && now !== undefined) {
    if (now > before) return { replaces: true }
    if (now < before) throw older(`sequence number ${now} is lower than ${before}, which is stored`, 'AMB-17')
    if (by === 'copy') throw older(`a copy differs from what is stored under the same sequence number ${now}`, 'TDB-06')
    return { replaces: true, warning: `the content changed, but not the sequence number ${now} (TDB-06)` }
  }
  if (by === 'copy') throw older('a copy without sequence number differs from what is stored: it may be older', 'FED-07')
  if (before === undefined) return { replaces: true }
  return { replaces: true, warning: `there is no sequence number any more; the last one was ${before} (TDB-06)` }
}

function older (rule: string, requirement: string): SpiffeError {
  return new SpiffeError('fetched_bundle_older', rule, { requirement })
}
