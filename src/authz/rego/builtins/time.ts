import { isArray, type RegoValue } from '../rego-value.ts'
import { formatGoTime, parseGoTime } from './go-time.ts'
import { NoValue, integerOf, numberOf, textOf, toInteger, type Builtin } from './operand.ts'

/** Wall-clock parts in some time zone. */
export interface Civil {
  readonly year: number, readonly month: number, readonly day: number
  readonly hour: number, readonly minute: number, readonly second: number
  readonly nanosecond: number
  /** Seconds that the zone is before UTC. */
  readonly offset: number
}

const second = 1_000_000_000n
const units: Readonly<Record<string, bigint>> = {
  ns: 1n, us: 1000n, 'µs': 1000n, 'μs': 1000n, ms: 1_000_000n, s: second, m: 60n * second, h: 3600n * second, d: 86_400n * second,
  w: 604_800n * second
}

export const timeBuiltins: Readonly<Record<string, Builtin>> = {
  'time.now_ns': (_, { timeNs }) => toInteger(timeNs),
  'time.parse_rfc3339_ns': ([text]) => inRange(parseGoTime('2006-01-02T15:04:05Z07:00', textOf(text))),
  'time.parse_ns': ([layout, text]) => inRange(parseGoTime(textOf(layout), textOf(text))),
  'time.parse_duration_ns': ([text]) => inRange(parseDuration(textOf(text))),
  'time.format': ([value]) => {
    const layout = isArray(value) && value.length === 3 ? textOf(value[2]) : '2006-01-02T15:04:05.999999999Z07:00'
    return formatGoTime(layout === '' ? '2006-01-02T15:04:05.999999999Z07:00' : layout, civilOf(value))
  },
  'time.date': ([value]) => { const { year, month, day } = civilOf(value); return [year, month, day] },
  'time.clock': ([value]) => { const { hour, minute, second } = civilOf(value); return [hour, minute, second] },
  'time.weekday': ([value]) => {
    const { year, month, day } = civilOf(value)
    const names = ['Sunday', 'Monday', 'Tuesday', 'Wednesday', 'Thursday', 'Friday', 'Saturday'] as const
    return names[new Date(Date.UTC(year, month - 1, day)).getUTCDay()]
  },
  'time.add_date': ([ns, years, months, days]) => {
    const { year, month, day, hour, minute, second: seconds, nanosecond } = civil(integerOf(ns), 'UTC')
    const moved = Date.UTC(year + numberOf(years), month - 1 + numberOf(months), day + numberOf(days), hour, minute, seconds)
    if (!Number.isFinite(moved)) throw new NoValue()
    return inRange(BigInt(moved) * 1_000_000n + BigInt(nanosecond))
  },
  'time.diff': ([first, second]) => {
    const [a, b] = [civilOf(first), civilOf(second)].toSorted((a, b) => compare(instant(a), instant(b))) as [Civil, Civil]
    return difference(a, b)
  }
}

function inRange (ns: bigint): number | bigint {
  if (BigInt.asIntN(64, ns) !== ns) throw new NoValue()
  return toInteger(ns)
}

/** @param value nanoseconds, or [nanoseconds, time zone, layout] */
function civilOf (value: RegoValue | undefined): Civil {
  if (!isArray(value)) return civil(integerOf(value), 'UTC')
  const zone = value.length > 1 ? textOf(value[1]) : 'UTC'
  return civil(integerOf(value[0]), zone === '' ? 'UTC' : zone)
}

function civil (ns: bigint, zone: string): Civil {
  inRange(ns)
  const nanosecond = Number((ns % second + second) % second)
  const ms = Number((ns - BigInt(nanosecond)) / 1_000_000n)
  const offset = zone === 'UTC' ? 0 : offsetAt(ms, zone)
  const date = new Date(ms + offset * 1000)
  return {
    year: date.getUTCFullYear(), month: date.getUTCMonth() + 1, day: date.getUTCDate(),
    hour: date.getUTCHours(), minute: date.getUTCMinutes(), second: date.getUTCSeconds(), nanosecond, offset
  }
}

const formats = new Map<string, Intl.DateTimeFormat>()

function offsetAt (ms: number, zone: string): number {
  let format = formats.get(zone)
  if (format === undefined) {
    try {
      format = new Intl.DateTimeFormat('en-US', {
        timeZone: zone === 'Local' ? 'UTC' : zone, hourCycle: 'h23', era: 'short', year: 'numeric', month: 'numeric', day: 'numeric',
        hour: 'numeric',
        minute: 'numeric', second: 'numeric'
      })
    } catch {
      throw new NoValue()
    }
    if (formats.size < 100) formats.set(zone, format)
  }
  const parts = Object.fromEntries(format.formatToParts(ms).map(({ type, value }) => [type, Number(value)]))
  const local = Date.UTC(parts['year']!, parts['month']! - 1, parts['day'], parts['hour'], parts['minute'], parts['second'])
  return Math.round((local - ms) / 1000)
}

function instant ({ year, month, day, hour, minute, second: seconds, nanosecond, offset }: Civil): bigint {
  return BigInt(Date.UTC(year, month - 1, day, hour, minute, seconds) - offset * 1000) * 1_000_000n + BigInt(nanosecond)
}

function compare (a: bigint, b: bigint): number { return a < b ? -1 : a > b ? 1 : 0 }

/** Years, months, days, hours, minutes and seconds from one to another, each as large as it can be. */
function difference (from: Civil, to: Civil): number[] {
  // Both in the first one's zone.
  const { year, month, day, hour, minute, second: seconds } = { ...civil(instant(to) + BigInt(from.offset) * second, 'UTC') }
  const parts = [year - from.year, month - from.month, day - from.day, hour - from.hour, minute - from.minute, seconds - from.second]
  const daysOfMonth = new Date(Date.UTC(from.year, from.month, 0)).getUTCDate()
  for (const [index, size] of [[5, 60], [4, 60], [3, 24], [2, daysOfMonth], [1, 12]] as const) {
    if (parts[index]! < 0) { parts[index]! += size; parts[index - 1]!-- }
  }
  return parts
}

function parseDuration (text: string): bigint {
  const match = /^([+-]?)((?:(?:\d+\.?\d*|\.\d+)(?:ns|us|µs|μs|ms|s|m|h|d|w))+|0)$/.exec(text)
  if (match === null) throw new NoValue()
  let total = 0n
  for (const [, whole = '', decimals = '', unit = 's'] of text.matchAll(/(\d*)\.?(\d*)(ns|us|µs|μs|ms|s|m|h|d|w)/g)) {
    total += BigInt(`${whole}${decimals}`) * (units[unit] ?? 0n) / 10n ** BigInt(decimals.length)
  }
  return match[1] === '-' ? -total : total
}
