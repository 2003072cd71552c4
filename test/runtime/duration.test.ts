import fc from 'fast-check'
import t from 'tap'
import { formatDuration, parseDuration } from '../../src/runtime/duration.ts'
import { anyText } from '../fakes/arbitraries.ts'
import { holds } from '../fakes/holds.ts'

const unitsMs = { ns: 1e-6, us: 1e-3, µs: 1e-3, μs: 1e-3, ms: 1, s: 1e3, m: 6e4, h: 3.6e6 }
const longestMs = 100 * 365.25 * 24 * 3_600_000

/** Go's grammar (`time.ParseDuration`) as a scan, where the parser has an expression. */
function scan (text: string): number | undefined {
  let rest = text.replace(/^[+-]/, '')
  if (rest === '0') return 0
  if (rest === '') return undefined
  let ms = 0
  while (rest !== '') {
    const number = /^[0-9]*\.?[0-9]*/.exec(rest)?.[0] ?? ''
    rest = rest.slice(number.length)
    if (!/[0-9]/.test(number)) return undefined
    const unit = /^[^0-9.]*/.exec(rest)?.[0] ?? ''
    rest = rest.slice(unit.length)
    if (!Object.hasOwn(unitsMs, unit)) return undefined
    ms += Number(number) * unitsMs[unit as keyof typeof unitsMs]
  }
  if (ms > longestMs) return undefined
  return text.startsWith('-') ? -ms : ms
}

const durationish = fc.array(fc.constantFrom(
  '0', '1', '59', '007', '.', '-', '+', 'ns', 'us', 'µs', 'μs', 'ms', 's', 'm', 'h', 'd', ' ', 'e3'
), { maxLength: 8 }).map(parts => parts.join(''))

void t.test('durations', async t => {
  await holds(t, 'whatever is no duration is refused, without a crash', fc.property(anyText, text => parseDuration(text) === scan(text)))
  await holds(t, 'the grammar is Go\'s', fc.property(durationish, text => parseDuration(text) === scan(text)), 5_000)
  await holds(t, 'round trip', fc.property(fc.integer({ min: -longestMs, max: longestMs }), ms => parseDuration(formatDuration(ms)) === ms))
  await holds(t, 'a sign turns it round', fc.property(fc.integer({ min: 1, max: longestMs }), ms =>
    parseDuration(`-${formatDuration(ms)}`) === -ms && parseDuration(`+${formatDuration(ms)}`) === ms))
})
