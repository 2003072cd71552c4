import type { AccessRecord } from './access-record.ts'
import type { Answer } from './caller-client.ts'

/** One call as both nodes' Envoys saw it. */
export interface CallFacts {
  readonly caller: string
  readonly answer: Answer
  /** By the client's node: the server is its peer. */
  readonly near: AccessRecord
  /** By the server's node: the client is its peer. */
  readonly far: AccessRecord
}

/** Two columns of what the peers saw: the allowed call and the refused one. */
export function formatFacts (allowed: CallFacts, refused: CallFacts): string {
  const row = (title: string, read: (facts: CallFacts) => string) => [title, read(allowed), read(refused)] as const
  return formatRows([
    row('plain HTTP from', facts => `workload ${facts.caller}`),
    row('the server\'s Envoy saw', ({ far }) => far.peerId),
    row('  serial', ({ far }) => shortSerial(far.peerSerial)),
    row('the client\'s Envoy saw', ({ near }) => near.peerId),
    row('  serial', ({ near }) => shortSerial(near.peerSerial)),
    row('TLS version', ({ far }) => far.tlsVersion),
    row('key exchange', ({ far }) => far.keyExchange),
    row('cipher', ({ far }) => far.cipher),
    row('decision', ({ far }) => decision(far)),
    row('the workload saw', ({ answer }) => callerOf(answer))
  ])
}

/** Enough to tell serials apart by eye. */
export function shortSerial (serial: string): string {
  return serial.length > 20 ? `${serial.slice(0, 8)}…${serial.slice(-8)}` : serial
}

function decision ({ status, details }: AccessRecord): string {
  const refused = details.startsWith('rbac_access_denied')
  return refused ? `refused by RBAC (${status})` : `allowed by RBAC (${status})`
}

function callerOf ({ status, body }: Answer): string {
  if (status !== 200) return 'nothing: the request never reached it'
  const { caller } = JSON.parse(body) as { caller: string | null }
  return /URI=[^;,]+/.exec(caller ?? '')?.[0] ?? 'no caller'
}

function formatRows (rows: readonly (readonly [string, string, string])[]): string {
  const [first, second] = [0, 1].map(column => Math.max(...rows.map(row => row[column]?.length ?? 0))) as [number, number]
  return rows.map(([title, a, b]) => `  ${title.padEnd(first)}   ${a.padEnd(second)}   ${b}\n`).join('')
}
