import { DerError, type DerReader } from './der-reader.ts'
import { derTag } from './der-tag.ts'
import { encodeDer } from './der-writer.ts'

/** Reads a Time as RFC 5280 §4.1.2.5 restricts it: UTC, to the second, no fraction. */
export function readTime (reader: DerReader): Date {
  const isUtcTime = reader.nextTag === derTag.utcTime
  const text = Buffer.from(reader.read(isUtcTime ? derTag.utcTime : derTag.generalizedTime)).toString('latin1')
  if (!(isUtcTime ? /^\d{12}Z$/ : /^\d{14}Z$/).test(text)) throw new DerError('time is not in UTC to the second')
  const digits = isUtcTime ? (Number(text.slice(0, 2)) < 50 ? '20' : '19') + text : text
  const iso = digits.replace(/^(....)(..)(..)(..)(..)(..)Z$/, '$1-$2-$3T$4:$5:$6.000Z')
  const time = new Date(iso)
  // `Date` reads the 31st of April as the 1st of May.
  if (Number.isNaN(time.getTime()) || time.toISOString() !== iso) throw new DerError(`no such time: ${text}`)
  return time
}

/** Writes a Time: UTCTime through 2049, GeneralizedTime from 2050 on. Fractions of a second are cut off. */
export function encodeTime (time: Date): Buffer {
  const year = time.getUTCFullYear()
  if (!(year >= 1950 && year <= 9999)) throw new RangeError(`year ${year} does not fit a certificate`)
  const iso = time.toISOString()
  const text = iso.slice(0, 4) + iso.slice(5, 7) + iso.slice(8, 10) + iso.slice(11, 13) + iso.slice(14, 16) + iso.slice(17, 19) + 'Z'
  return year < 2050
    ? encodeDer(derTag.utcTime, Buffer.from(text.slice(2), 'latin1'))
    : encodeDer(derTag.generalizedTime, Buffer.from(text, 'latin1'))
}
