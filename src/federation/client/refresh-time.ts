import type { Bundle } from '../../spiffe/bundle.ts'
import { trustEnds } from './trust-ends.ts'

export interface RefreshTimes {
  /** Nobody is asked more often, whatever their hint says. */
  readonly leastMs: number
  /** Nobody is asked more rarely (TDB-09): a removed key is noticed at the latest then. */
  readonly mostMs: number
  /** Without a hint (FED-05). */
  readonly withoutHintMs: number
}

export const defaultRefreshTimes: RefreshTimes = { leastMs: 60_000, mostMs: 3_600_000, withoutHintMs: 300_000 }

/** Of the time until trust ends, so that some tries are left. */
const partOfRest = 1 / 5
/** Partners are not asked in step. Sooner, never later than the hint says. */
const jitter = 0.1

export interface RefreshFacts {
  /** In force. */
  readonly bundle: Bundle | undefined
  /** Of the endpoint, in a row. */
  readonly failures: number
  /** What the endpoint asked for when it refused. */
  readonly retryAfterMs: number | undefined
  readonly now: Date
  /** From 0 to 1. */
  readonly random: number
}

/**
 * How long to wait before the endpoint is asked again: as long as its hint says (FED-05), within bounds, and sooner when trust is about to
 * end. After a failure sooner too, but ever later until the interval is reached, and never in a tight loop (FED-06).
 * @returns milliseconds
 */
export function nextRefreshMs ({ bundle, failures, retryAfterMs = 0, now, random }: RefreshFacts, times: RefreshTimes): number {
  const hint = bundle?.refreshHintSeconds
  // Zero says no more than no hint does.
  const wanted = hint === undefined || hint === 0 ? times.withoutHintMs : hint * 1000
  const ends = bundle === undefined ? undefined : trustEnds(bundle)
  const restMs = ends === undefined ? Infinity : ends.getTime() - now.getTime()
  const soon = restMs <= 0 ? wanted : Math.min(wanted, restMs * partOfRest)
  const interval = within(soon, times)
  const patience = failures === 0 ? interval : Math.min(interval, times.leastMs * 2 ** Math.min(failures - 1, 20))
  return Math.max(patience * (1 - jitter * random), times.leastMs, Math.min(retryAfterMs, times.mostMs))
}

function within (ms: number, { leastMs, mostMs }: RefreshTimes): number { return Math.min(Math.max(ms, leastMs), mostMs) }
