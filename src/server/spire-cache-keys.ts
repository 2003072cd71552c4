import { z } from 'zod'
import { durationSeconds } from '../runtime/config-schema.ts'
import { formatDuration } from '../runtime/duration.ts'

/** SPIRE takes the empty text for a key that is not there. */
export function orEmpty<Schema extends z.ZodType> (schema: Schema) {
  return z.preprocess(value => value === '' ? undefined : value, schema.optional()).optional()
}

const interval = orEmpty(durationSeconds(0))

/** Keys of SPIRE's `experimental` that say how late its cache of entries may be, and how that is kept in step with the database. */
export const spireCacheKeys = {
  cache_reload_interval: interval,
  full_cache_reload_interval: interval,
  events_based_cache: z.boolean().optional(),
  event_timeout: interval,
  sql_transaction_timeout: interval
}

/** The least that `max_staleness` can be: the log of changes is looked at each second, whether or not somebody told of one. */
export const leastStaleSeconds = 3

export interface StalenessAsked {
  /** SPIRE's `max_attested_node_info_staleness`, in seconds. */
  readonly ofAgents: number | undefined
  /** `max_staleness`, in seconds; infinite by explicit choice. */
  readonly ofAll: number
  /** Whether the database is one that others write to, too. */
  readonly shared: boolean
}

/** How old the view by which agents are judged may be, in seconds, and what there is to say about it. */
export function stalenessOf ({ ofAgents, ofAll, shared }: StalenessAsked): { readonly seconds: number, readonly note: string | undefined } {
  const key = 'max_attested_node_info_staleness'
  if (ofAgents === undefined) return { seconds: ofAll, note: undefined }
  if (!shared) return { seconds: ofAll, note: `${key} is met anyway: agents are judged by what the database says now` }
  if (ofAgents === 0) {
    const note = `${key} of 0s: agents are judged by a view that follows each commit, and is at most ${formatDuration(ofAll * 1000)} old ` +
      '(max_staleness); the database is not asked at each call'
    return { seconds: ofAll, note }
  }
  if (ofAgents < ofAll) return { seconds: ofAgents, note: undefined }
  const note = `${key} is met anyway: what is known of agents is at most ${formatDuration(ofAll * 1000)} old (max_staleness)`
  return { seconds: ofAll, note }
}

/** What is to be said about the keys of SPIRE's cache that were given. */
export function cacheNotes (experimental: { readonly [Key in keyof typeof spireCacheKeys]?: unknown }): string[] {
  const given = Object.keys(spireCacheKeys).filter(key => experimental[key as keyof typeof spireCacheKeys] !== undefined)
  if (given.length === 0) return []
  return [`experimental: ${given.join(', ')}: met anyway: changes are followed in the order of their commits, as they are committed, ` +
    'and looked for each second besides']
}
