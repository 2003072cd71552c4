import type { Labels, MetricSink } from './metric-sink.ts'

/** Takes one line, without its end. Never waits or throws. */
export type Push = (line: string) => void

/** StatsD's lines as SPIRE writes them: the values of labels are further parts of the name. Durations are in milliseconds. */
export function statsdSink (push: Push): MetricSink {
  const tell = (name: string, value: number, type: 'c' | 'g' | 'ms', labels: Labels) => {
    if (Number.isFinite(value)) push(`${wordOf([name, ...Object.values(labels)].join('.'))}:${fixed(value)}|${type}`)
  }
  return {
    count: (name, by, labels) => tell(name, by, 'c', labels),
    sample: (name, value, labels) => tell(name, value, 'ms', labels),
    gauge: (name, value, labels) => tell(name, value, 'g', labels)
  }
}

/** What Datadog's clients send with each, by the variable that has it. */
const tagVariables = [
  ['DD_ENTITY_ID', 'dd.internal.entity_id'], ['DD_ENV', 'env'], ['DD_SERVICE', 'service'], ['DD_VERSION', 'version']
] as const

/** DogStatsD's lines as SPIRE writes them: labels are tags. */
export function dogStatsdSink (push: Push, environment: NodeJS.ProcessEnv): MetricSink {
  const ofAll = tagVariables.flatMap(([variable, tag]) => {
    const { [variable]: value = '' } = environment
    return value === '' ? [] : [`${tag}:${value.replaceAll('\n', '')}`]
  })
  const tell = (name: string, value: string, type: 'c' | 'g' | 'ms', labels: Labels) => {
    const own = Object.entries(labels).map(([label, text]) => text === '' ? wordOf(label) : `${wordOf(label)}:${wordOf(text)}`)
    const tags = [...ofAll, ...own].join(',')
    push(`${wordOf(name)}:${value}|${type}${tags === '' ? '' : `|#${tags}`}`)
  }
  return {
    count (name, by, labels) { if (Number.isFinite(by)) tell(name, String(Math.trunc(by)), 'c', labels) },
    sample (name, value, labels) { if (Number.isFinite(value)) tell(name, fixed(value), 'ms', labels) },
    gauge (name, value, labels) { if (Number.isFinite(value)) tell(name, shortest(value), 'g', labels) }
  }
}

/** What would end a name, a value, a tag or a line there. */
function wordOf (text: string): string { return text.replaceAll(/[:\s|,#@]/g, '_') }

/** Six digits behind the point, and no exponent. */
function fixed (value: number): string { return Math.abs(value) < 1e21 ? value.toFixed(6) : BigInt(value).toString() + '.000000' }

/** As few digits as tell the value, and no exponent. */
function shortest (value: number): string {
  const text = String(value)
  if (!text.includes('e')) return text
  return Math.abs(value) < 1 ? value.toFixed(20).replace(/\.?0+$/, '') : BigInt(value).toString()
}
