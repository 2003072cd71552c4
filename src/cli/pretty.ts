/** `1 entry`, `2 entries`. */
export function counted (count: number, one: string, many: string): string {
  return `${count} ${count === 1 ? one : many}`
}

/** As Go prints a time in UTC: `2026-01-31 12:00:00 +0000 UTC`. */
export function formatTime (date: Date): string {
  return `${date.toISOString().slice(0, 19).replace('T', ' ')} +0000 UTC`
}

export function formatUnixSeconds (seconds: bigint | number): string {
  const date = new Date(Number(seconds) * 1_000)
  return Number.isNaN(date.getTime()) ? `${seconds} seconds since 1970` : formatTime(date)
}

/** `label : value` lines with the labels padded to one width; rows without a value are left out. */
export function formatRows (rows: readonly (readonly [label: string, value: string | undefined])[], width: number): string {
  return rows.flatMap(([label, value]) => value === undefined ? [] : [`${label.padEnd(width)}: ${printable(value)}\n`]).join('')
}

/** Columns as wide as their widest cell, two spaces apart. */
export function formatTable (headings: readonly string[], rows: readonly (readonly string[])[]): string {
  const lines = [headings, ...rows].map(cells => cells.map(printable))
  const widths = headings.map((_, column) => Math.max(...lines.map(cells => cells[column]?.length ?? 0)))
  return lines.map(cells => `${cells.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join('  ').trimEnd()}\n`).join('')
}

/** What a remote party wrote must neither steer the terminal nor look like lines of ours. */
export function printable (text: string): string {
  return text.replace(/\p{Cc}/gu, character => `\\x${character.charCodeAt(0).toString(16).padStart(2, '0')}`)
}
