export const weekDays = ['sun', 'mon', 'tue', 'wed', 'thu', 'fri', 'sat'] as const
export type WeekDay = typeof weekDays[number]

/** Times at which a rule holds; all that is given must be so. */
export interface TimeWindowSpec {
  readonly notBefore?: Date | undefined
  readonly notAfter?: Date | undefined
  readonly days?: readonly WeekDay[] | undefined
  /** Minutes after midnight, the first included and the last not; `to` before `from` goes on after midnight, of the day it began. */
  readonly from?: number | undefined
  readonly to?: number | undefined
  /** Of the IANA data base; of days and minutes. */
  readonly timeZone: string
}

const dayMinutes = 1_440

export class TimeWindow {
  readonly spec: TimeWindowSpec
  readonly #format: Intl.DateTimeFormat | undefined

  /** @throws {RangeError} for a time zone that does not exist */
  constructor (spec: TimeWindowSpec) {
    this.spec = spec
    const { days, from, to, timeZone } = spec
    // One for all decisions: making a format costs a thousand times what using it does.
    if (days !== undefined || from !== undefined || to !== undefined) {
      this.#format = new Intl.DateTimeFormat('en-US', { timeZone, weekday: 'short', hour: '2-digit', minute: '2-digit', hourCycle: 'h23' })
    }
  }

  holdsAt (time: Date): boolean {
    const { notBefore, notAfter, days, from = 0, to = dayMinutes } = this.spec
    if (notBefore !== undefined && time < notBefore) return false
    if (notAfter !== undefined && time >= notAfter) return false
    if (this.#format === undefined) return true
    const { day, minute } = this.#local(time)
    const began = from <= to || minute >= from ? day : (day + 6) % 7
    const within = from <= to ? minute >= from && minute < to : minute >= from || minute < to
    return within && (days === undefined || days.includes(weekDays[began] ?? 'sun'))
  }

  #local (time: Date): { day: number, minute: number } {
    const parts = Object.fromEntries(this.#format?.formatToParts(time).map(({ type, value }) => [type, value]) ?? [])
    const day = weekDays.findIndex(name => name === parts['weekday']?.toLowerCase())
    return { day, minute: Number(parts['hour']) * 60 + Number(parts['minute']) }
  }
}
