import type { TimeWindowSpec } from '../policy/time-window.ts'

/** Whether it holds at no time at all, or at none from `now` on. */
export function isOver ({ notBefore, notAfter, from, to }: TimeWindowSpec, now: Date): 'never' | 'past' | undefined {
  const isEmpty = notBefore !== undefined && notAfter !== undefined && notAfter <= notBefore
  // From and to alike are no whole day, but no time.
  if (isEmpty || (from !== undefined && from === (to ?? 1_440)) || (to !== undefined && to === (from ?? 0))) return 'never'
  return notAfter !== undefined && notAfter <= now ? 'past' : undefined
}

export function windowCovers (wide: TimeWindowSpec, narrow: TimeWindowSpec): boolean {
  const begins = wide.notBefore === undefined || (narrow.notBefore !== undefined && wide.notBefore <= narrow.notBefore)
  const ends = wide.notAfter === undefined || (narrow.notAfter !== undefined && wide.notAfter >= narrow.notAfter)
  return begins && ends && (hoursOf(wide) === undefined || hoursOf(wide) === hoursOf(narrow))
}

export function windowsDisjoint (a: TimeWindowSpec, b: TimeWindowSpec): boolean {
  const before = (one: TimeWindowSpec, other: TimeWindowSpec) =>
    one.notAfter !== undefined && other.notBefore !== undefined && one.notAfter <= other.notBefore
  return before(a, b) || before(b, a)
}

/** All of it but the two instants, to be compared; `undefined`: any hour of any day. */
function hoursOf ({ days, from, to, timeZone }: TimeWindowSpec): string | undefined {
  return days === undefined && from === undefined && to === undefined ? undefined : JSON.stringify([days?.toSorted(), from, to, timeZone])
}
