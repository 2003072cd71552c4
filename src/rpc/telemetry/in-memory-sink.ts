import type { Clock } from '../../runtime/clock.ts'
import type { Labels, MetricSink } from './metric-sink.ts'

/** Lengths of time that values are summed up in. */
const intervalMs = 1_000
/** So long is kept what was told. */
const keptMs = 3_600_000
/** Of all intervals together; the oldest go first. A dump has a line for each. */
const mostValues = 10_000

interface Sum { count: number, sum: number, squares: number, min: number, max: number, lastMs: number }
interface Interval {
  readonly startMs: number
  readonly gauges: Map<string, number>
  readonly counters: Map<string, Sum>
  readonly samples: Map<string, Sum>
}

export interface InMemorySink extends MetricSink {
  /** What was told in the last hour but for the second that is not over, in the form that SPIRE's library gives it, oldest first. */
  dump (): Iterable<string>
}

export function inMemorySink (clock: Clock): InMemorySink {
  let intervals: Interval[] = []
  let values = 0

  function current (): Interval {
    const startMs = Math.floor(clock.now().getTime() / intervalMs) * intervalMs
    const last = intervals.at(-1)
    if (last?.startMs === startMs) return last
    const made: Interval = { startMs, gauges: new Map(), counters: new Map(), samples: new Map() }
    intervals.push(made)
    return made
  }

  function forget (): void {
    const endMs = clock.now().getTime() - keptMs
    let [oldest] = intervals
    // The one of now stays: what is told in a second is bounded by how many names and labels there are.
    while (oldest !== undefined && intervals.length > 1 && (values > mostValues || oldest.startMs < endMs)) {
      values -= oldest.gauges.size + oldest.counters.size + oldest.samples.size
      intervals = intervals.slice(1)
      ;[oldest] = intervals
    }
  }

  function sumUp (kind: 'counters' | 'samples', name: string, value: number, labels: Labels): void {
    const [sums, key] = [current()[kind], keyOf(name, labels)]
    const known = sums.get(key)
    const lastMs = clock.now().getTime()
    if (known === undefined) {
      sums.set(key, { count: 1, sum: value, squares: value ** 2, min: value, max: value, lastMs })
      values++
      forget()
      return
    }
    known.count++
    known.sum += value
    known.squares += value ** 2
    known.min = Math.min(known.min, value)
    known.max = Math.max(known.max, value)
    known.lastMs = lastMs
  }

  return {
    count: (name, by, labels) => sumUp('counters', name, by, labels),
    sample: (name, value, labels) => sumUp('samples', name, value, labels),
    gauge (name, value, labels) {
      const [{ gauges }, key] = [current(), keyOf(name, labels)]
      if (!gauges.has(key)) values++
      gauges.set(key, value)
      forget()
    },
    * dump () {
      forget()
      const nowMs = clock.now().getTime()
      for (const { startMs, gauges, counters, samples } of intervals.filter(({ startMs }) => startMs + intervalMs <= nowMs)) {
        const at = `[${textOf(startMs, 'seconds')}]`
        for (const [key, value] of gauges) yield `${at}[G] '${key}': ${value.toFixed(3)}`
        for (const [key, sum] of counters) yield `${at}[C] '${key}': ${sumText(sum)}`
        for (const [key, sum] of samples) yield `${at}[S] '${key}': ${sumText(sum)}`
      }
    }
  }
}

function keyOf (name: string, labels: Labels): string {
  return [name, ...Object.values(labels)].join('.').replaceAll(/[\s:]/g, '_')
}

function sumText ({ count, sum, squares, min, max, lastMs }: Sum): string {
  const deviation = count < 2 ? 0 : Math.sqrt(Math.max(0, count * squares - sum ** 2) / (count * (count - 1)))
  const least = `Min: ${min.toFixed(3)} Mean: ${(sum / count).toFixed(3)} Max: ${max.toFixed(3)}`
  const spread = deviation === 0 ? '' : `${least} Stddev: ${deviation.toFixed(3)} `
  return `Count: ${count} ${spread}Sum: ${sum.toFixed(3)} LastUpdated: ${textOf(lastMs, 'milliseconds')}`
}

/** e.g. `2026-01-01 00:00:00 +0000 UTC` */
function textOf (ms: number, to: 'seconds' | 'milliseconds'): string {
  return `${new Date(ms).toISOString().slice(0, to === 'seconds' ? 19 : 23).replace('T', ' ')} +0000 UTC`
}
