import type { Outcome } from './call-watch.ts'
import type { Handshakes } from './handshakes.ts'

/** Who called whom, what came of it, and as whom the caller was seen on the other side. */
export function formatCalls (outcomes: readonly Outcome[]): string {
  const rows = [
    ['plain HTTP', 'decision', 'answered by', 'the peer saw'],
    ...outcomes.map(({ from, to, allowed, peer, by }) =>
      [`${from} -> ${to}`, allowed ? 'allowed' : 'refused', allowed ? by.join(', ') : '-', peer ?? 'nobody'])
  ]
  const widths = [0, 1, 2].map(column => Math.max(...rows.map(row => row[column]?.length ?? 0)))
  return rows.map(row => `  ${row.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join('   ')}\n`).join('')
}

export function formatHandshakes ({ count, versions, keyExchanges }: Handshakes): string {
  return `${count} TLS handshakes between proxies so far: ${versions.join(', ')} with ${keyExchanges.join(', ')}, all of them`
}
