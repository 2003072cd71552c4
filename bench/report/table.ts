import { median } from '../measure/statistics.ts'
import type { Range, Row, Section } from '../suite.ts'

const header = ['what', 'Assay: median (min–max)', 'SPIRE, same run', 'SPIRE, elsewhere', 'Assay / SPIRE', 'budget', 'verdict']

/** Markdown that reads well on a terminal too. */
export function formatSection ({ title, rows, notes }: Section): string {
  const cells = rows.map(cellsOf)
  const used = header.map((_, column) => column < 2 || cells.some(row => row[column] !== ''))
  const lines = [header, header.map(() => ''), ...cells].map(line => line.filter((_, column) => used[column]))
  const widths = (lines[0] ?? []).map((_, column) => Math.max(...lines.map(line => line[column]?.length ?? 0)))
  const table = lines.map((cells, index) =>
    `| ${cells.map((cell, column) => cell.padEnd(widths[column] as number, index === 1 ? '-' : ' ')).join(' | ')} |`)
  return [`### ${title}`, '', ...table, '', ...notes.map(note => `- ${note}`), ...notes.length > 0 ? [''] : []].join('\n')
}

function cellsOf (row: Row): string[] {
  const { what, unit, values, peer, spire, budget } = row
  return [
    what,
    formatValues(values, ` ${unit}`),
    peer === undefined ? '' : formatValues(peer, ` ${unit}`),
    spire === undefined ? '' : formatRange(spire),
    ratioOf(row),
    budget === undefined ? '' : `${row.better === 'higher' ? '≥' : '≤'} ${formatRange(budget)}`,
    verdictOf(row)
  ]
}

/** Of the same run: round by round, since the machine's mood is that of the round. */
function ratioOf ({ values, peer, spire }: Row): string {
  if (peer !== undefined) {
    // What took less than a tick of the clock has no ratio.
    const ratios = values.map((value, round) => value / (peer[round] ?? 0)).filter(Number.isFinite)
    return ratios.length === 0 ? '' : formatValues(ratios, '')
  }
  if (spire === undefined) return ''
  const middle = median(values)
  return formatRange([middle / spire[1], middle / spire[0]])
}

function formatValues (values: readonly number[], unit: string): string {
  const spread = values.length > 1 ? ` (${short(Math.min(...values))}–${short(Math.max(...values))})` : ''
  return `${short(median(values))}${unit}${spread}`
}

/** `met`, `nearly` (within the range that SPIRE's own spread gives) or `MISSED`. */
export function verdictOf ({ values, budget, better = 'lower' }: Row): string {
  if (budget === undefined) return ''
  const middle = median(values)
  const [strict, lenient] = better === 'lower' ? budget : [budget[1], budget[0]]
  const within = (limit: number) => better === 'lower' ? middle <= limit : middle >= limit
  return within(strict) ? 'met' : within(lenient) ? 'nearly' : 'MISSED'
}

function formatRange ([low, high]: Range): string {
  return short(low) === short(high) ? short(low) : `${short(low)}–${short(high)}`
}

/** Three digits that count. */
function short (value: number): string {
  return Math.abs(value) >= 100 ? Math.round(value).toLocaleString('en-US') : String(Number(value.toPrecision(3)))
}
