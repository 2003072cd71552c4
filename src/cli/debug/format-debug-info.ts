import type { GetInfoResponse_Cert } from '../../wire/generated/agent-debug.ts'
import { printable } from '../pretty.ts'

/** Rows under a heading, then the chain, as SPIRE prints them. */
export function formatDebugInfo (
  heading: string, rows: readonly (readonly [label: string, value: string])[], width: number, chain: readonly GetInfoResponse_Cert[]
): string {
  const shown = chain.flatMap(({ id, subject, expiresAt }, index) => [
    `    [${index}] SPIFFE ID:  ${id === undefined ? '(none)' : printable(`spiffe://${id.trustDomain}${id.path}`)}`,
    `        Subject:    ${printable(subject)}`,
    `        Expires At: ${new Date(Number(expiresAt) * 1_000).toISOString().replace('.000Z', 'Z')}`
  ])
  return [
    `${heading}:`,
    ...rows.map(([label, value]) => `  ${`${label}:`.padEnd(width)}${value}`),
    ...shown.length === 0 ? [] : ['  SVID Chain:', ...shown],
    ''
  ].join('\n')
}

/** As Go prints a duration: `1h2m3s`, always down to seconds. */
export function formatUptime (seconds: number): string {
  const [hours, minutes] = [Math.floor(seconds / 3_600), Math.floor(seconds / 60) % 60]
  return `${hours > 0 ? `${hours}h` : ''}${hours > 0 || minutes > 0 ? `${minutes}m` : ''}${seconds % 60}s`
}
