import { NoValue } from './operand.ts'
import type { Civil } from './time.ts'

const months = ['January', 'February', 'March', 'April', 'May', 'June', 'July', 'August', 'September', 'October', 'November', 'December']
const days = ['Sunday', 'Monday', 'Tuesday', 'Wednesday', 'Thursday', 'Friday', 'Saturday']
/** The parts of Go's reference time (https://pkg.go.dev/time#Layout) that policies use. */
const parts = /2006|January|Monday|Jan|Mon|Z07:00|-07:00|Z0700|-0700|MST|[.,][09]+(?!\d)|01|02|03|04|05|06|15|PM|_2|1|2|3|4|5/g

/** Names that `time.parse_ns` and `time.format` take for Go's own layouts. */
const named: Readonly<Record<string, string>> = {
  ANSIC: 'Mon Jan _2 15:04:05 2006', UnixDate: 'Mon Jan _2 15:04:05 MST 2006',
  RFC822: '02 Jan 06 15:04 MST', RFC822Z: '02 Jan 06 15:04 -0700',
  RFC850: 'Monday, 02-Jan-06 15:04:05 MST', RFC1123: 'Mon, 02 Jan 2006 15:04:05 MST', RFC1123Z: 'Mon, 02 Jan 2006 15:04:05 -0700',
  RFC3339: '2006-01-02T15:04:05Z07:00', RFC3339Nano: '2006-01-02T15:04:05.999999999Z07:00'
}

export function formatGoTime (layout: string, civil: Civil): string {
  const { year, month, day, hour, minute, second, nanosecond, offset } = civil
  const two = (value: number) => String(value).padStart(2, '0')
  const zone = (colon: string) => {
    const minutes = Math.abs(Math.trunc(offset / 60))
    return `${offset < 0 ? '-' : '+'}${two(Math.trunc(minutes / 60))}${colon}${two(minutes % 60)}`
  }
  const weekday = days[new Date(Date.UTC(year, month - 1, day)).getUTCDay()] as string
  return (named[layout] ?? layout).replace(parts, part => {
    switch (part) {
      case '2006': return String(year).padStart(4, '0')
      case '06': return two(year % 100)
      case 'January': return months[month - 1] as string
      case 'Jan': return (months[month - 1] as string).slice(0, 3)
      case 'Monday': return weekday
      case 'Mon': return weekday.slice(0, 3)
      case '01': return two(month)
      case '1': return String(month)
      case '02': return two(day)
      case '_2': return String(day).padStart(2)
      case '2': return String(day)
      case '15': return two(hour)
      case '03': return two(hour % 12 === 0 ? 12 : hour % 12)
      case '3': return String(hour % 12 === 0 ? 12 : hour % 12)
      case '04': return two(minute)
      case '4': return String(minute)
      case '05': return two(second)
      case '5': return String(second)
      case 'PM': return hour < 12 ? 'AM' : 'PM'
      case 'Z07:00': return offset === 0 ? 'Z' : zone(':')
      case '-07:00': return zone(':')
      case 'Z0700': return offset === 0 ? 'Z' : zone('')
      case '-0700': return zone('')
      case 'MST': return offset === 0 ? 'UTC' : zone('')
      default: return fraction(part, nanosecond)
    }
  })
}

function fraction (part: string, nanosecond: number): string {
  const digits = String(nanosecond).padStart(9, '0').slice(0, part.length - 1)
  if (part[1] === '0') return `${part[0]}${digits}`
  const short = digits.replace(/0+$/, '')
  return short === '' ? '' : `${part[0]}${short}`
}

const forms: Readonly<Record<string, string>> = {
  2006: String.raw`(?<year>\d{4})`, '06': String.raw`(?<year2>\d{2})`, January: `(?<monthName>${months.join('|')})`,
  Jan: `(?<monthName>${months.map(name => name.slice(0, 3)).join('|')})`, Monday: `(?:${days.join('|')})`,
  Mon: '(?:Sun|Mon|Tue|Wed|Thu|Fri|Sat)',
  '01': String.raw`(?<month>\d{2})`, 1: String.raw`(?<month>\d{1,2})`,
  '02': String.raw`(?<day>\d{2})`, _2: String.raw` ?(?<day>\d{1,2})`,
  2: String.raw`(?<day>\d{1,2})`, 15: String.raw`(?<hour>\d{2})`, '03': String.raw`(?<hour>\d{2})`, 3: String.raw`(?<hour>\d{1,2})`,
  '04': String.raw`(?<minute>\d{2})`, 4: String.raw`(?<minute>\d{1,2})`,
  '05': String.raw`(?<second>\d{2})(?:[.,](?<fraction>\d+))?`,
  5: String.raw`(?<second>\d{1,2})(?:[.,](?<fraction>\d+))?`, PM: '(?<half>AM|PM)', 'Z07:00': String.raw`(?<zone>Z|[+-]\d\d:\d\d)`,
  '-07:00': String.raw`(?<zone>[+-]\d\d:\d\d)`, Z0700: String.raw`(?<zone>Z|[+-]\d{4})`, '-0700': String.raw`(?<zone>[+-]\d{4})`,
  MST: '(?:UTC|GMT)'
}

/** @returns nanoseconds since 1970 */
export function parseGoTime (layout: string, text: string): bigint {
  let pattern = ''
  let at = 0
  const form = named[layout] ?? layout
  for (const match of form.matchAll(parts)) {
    // A fraction is read behind the seconds whether or not the layout has one.
    pattern += RegExp.escape(form.slice(at, match.index)) + (forms[match[0]] ?? '')
    at = match.index + match[0].length
  }
  let found: Record<string, string | undefined> | undefined
  try {
    found = new RegExp(`^${pattern}${RegExp.escape(form.slice(at))}$`).exec(text)?.groups
  } catch {
    // A part twice.
  }
  if (found === undefined) throw new NoValue()
  return instantOf(found)
}

function instantOf (found: Readonly<Record<string, string | undefined>>): bigint {
  const number = (name: string, otherwise: number) => found[name] === undefined ? otherwise : Number(found[name])
  const short = number('year2', 0)
  const century = found['year2'] === undefined ? 0 : short >= 69 ? 1900 : 2000
  const year = number('year', short + century)
  const named = found['monthName'] === undefined ? 0 : months.findIndex(name => name.startsWith(found['monthName'] as string)) + 1
  const [month, day] = [number('month', named === 0 ? 1 : named), number('day', 1)]
  const [minute, second] = [number('minute', 0), number('second', 0)]
  const hour = found['half'] === undefined ? number('hour', 0) : number('hour', 0) % 12 + (found['half'] === 'PM' ? 12 : 0)
  const date = new Date(0)
  date.setUTCFullYear(year, month - 1, day)
  if (date.getUTCMonth() !== month - 1 || date.getUTCDate() !== day || hour > 23 || minute > 59 || second > 59) throw new NoValue()
  date.setUTCHours(hour, minute, second)
  const fraction = BigInt((found['fraction'] ?? '').slice(0, 9).padEnd(9, '0'))
  return BigInt(date.getTime() - offsetOf(found['zone']) * 1000) * 1_000_000n + fraction
}

/** @param zone `Z`, `+02:00` or `+0200` */
function offsetOf (zone: string | undefined): number {
  if (zone === undefined || zone === 'Z') return 0
  const digits = zone.replaceAll(/\D/g, '')
  const [hours, minutes] = [Number(digits.slice(0, 2)), Number(digits.slice(2))]
  if (hours > 24 || minutes > 59) throw new NoValue()
  return (hours * 60 + minutes) * (zone.startsWith('-') ? -60 : 60)
}
