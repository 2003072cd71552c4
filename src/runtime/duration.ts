/** Milliseconds per unit of Go's duration syntax. */
const units: Readonly<Record<string, number>> = { ns: 1e-6, us: 1e-3, µs: 1e-3, μs: 1e-3, ms: 1, s: 1_000, m: 60_000, h: 3_600_000 }

/**
 * Reads a duration as Go writes it: `300ms`, `1.5h`, `1h30m`, `-5s`; a bare `0` needs no unit.
 * @returns milliseconds, or `undefined` when the text is not a duration or is beyond what a `Date` can add (100 years)
 */
export function parseDuration (text: string): number | undefined {
  if (!/^[+-]?(0|(\d+(\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h)((\d+(\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h))*)$/.test(text)) return undefined
  let ms = 0
  for (const [, number, unit] of text.matchAll(/([\d.]+)(ns|us|µs|μs|ms|s|m|h)/g)) ms += Number(number) * (units[unit as string] as number)
  if (ms > longestMs) return undefined
  return text.startsWith('-') ? -ms : ms
}

const longestMs = 100 * 365.25 * 24 * 3_600_000

/** The shortest text that `parseDuration` reads back: `1h30m`, `250ms`, `0s`. @param ms whole milliseconds */
export function formatDuration (ms: number): string {
  if (ms === 0) return '0s'
  let left = Math.round(Math.abs(ms))
  let text = ms < 0 ? '-' : ''
  for (const unit of ['h', 'm', 's', 'ms']) {
    const size = units[unit] as number
    const count = Math.floor(left / size)
    if (count > 0) text += `${count}${unit}`
    left -= count * size
  }
  return text
}
