import { counted, printable } from '../pretty.ts'
import type { Check } from './failover-checks.ts'
import type { Round } from './failover-round.ts'

export interface FailoverReport {
  readonly passed: boolean
  readonly dryRun: boolean
  readonly checks: readonly Check[]
  readonly rounds: readonly Round[]
}

export function formatChecks (checks: readonly Check[]): string {
  const lines = checks.flatMap(({ name, passed, detail, next }) => [
    `${passed ? 'ok    ' : 'failed'}  ${name}: ${printable(detail)}`, ...next === undefined ? [] : [`        next: ${next}`]
  ])
  return `${lines.join('\n')}\n`
}

export function formatRound ({ address, agents, movedMs, laggards, chores }: Round): string {
  const moved = movedMs === undefined
    ? `${laggards.length} of ${counted(agents, 'agent', 'agents')} did not come up elsewhere: ${laggards.join(', ')}`
    : agents === 0 ? 'no agent was connected' : `${counted(agents, 'agent', 'agents')} acknowledged elsewhere, the last after ${movedMs} ms`
  return printable(`${address} stood aside: ${moved}; ${formatChores(chores)}`)
}

function formatChores (chores: Round['chores']): string {
  if (chores === undefined) return 'it had no chores'
  if (chores.afterMs === undefined) return 'nobody took the chores over'
  return `chores taken over by ${chores.takenOverBy} after ${chores.afterMs} ms`
}
