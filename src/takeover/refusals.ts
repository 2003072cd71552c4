import { SpiffeError, type ErrorCode } from '../spiffe/errors.ts'
import type { AgentMove } from './agent-moves.ts'
import type { Journal } from './journal.ts'
import type { TakeoverPlan } from './plan.ts'

const mostNamed = 10

/** @throws {SpiffeError} `takeover_over` */
export function requireRunning (journal: Journal): void {
  if (journal.phase === 'finished' || journal.phase === 'rolled_back') throw over(journal)
}

export function over ({ phase }: Journal): SpiffeError {
  return new SpiffeError('takeover_over', `the takeover is ${phase === 'finished' ? 'finished' : 'rolled back'}`)
}

/** @param file of the journal that is not there */
export function unknownTakeover (file: string): SpiffeError {
  return new SpiffeError('takeover_unknown', `${file} is not there: no takeover has begun`)
}

/** @throws {SpiffeError} `takeover_spire_gone` for a takeover that was ended without SPIRE's server */
export function requireSpire (journal: Pick<Journal, 'spireGoneAt' | 'lastRoundAt'> | undefined): void {
  if (journal?.spireGoneAt === undefined) return
  const [ended, seen] = [journal.spireGoneAt.toISOString(), journal.lastRoundAt.toISOString()]
  throw new SpiffeError('takeover_spire_gone', `the takeover was ended at ${ended} without SPIRE's server, last seen at ${seen}: nothing ` +
    'goes back to it. Go on with our server; a SPIRE server that comes back is to be stopped')
}

/** @throws {SpiffeError} `takeover_blocked` */
export function requireFree ({ findings }: Pick<TakeoverPlan, 'findings'>): void {
  const blocking = findings.filter(({ kind }) => kind === 'blocks')
  if (blocking.length === 0) return
  const named = blocking.slice(0, mostNamed).map(({ code, about, message }) => `${code} ${about}: ${message}`)
  throw new SpiffeError('takeover_blocked', `${named.join('; ')}${blocking.length > mostNamed ? '; …' : ''}`,
    { details: { findings: blocking.slice(0, mostNamed) } })
}

/** @param what would happen to them @throws {SpiffeError} with this code where there is one */
export function requireNone (agents: readonly AgentMove[], code: ErrorCode, what: string): void {
  if (agents.length === 0) return
  const names = agents.slice(0, mostNamed).map(({ id }) => id).join(', ')
  const listed = agents.length > mostNamed ? `${names} and ${agents.length - mostNamed} more` : names
  throw new SpiffeError(code, `${agents.length} agent${agents.length === 1 ? '' : 's'} ${what}: ${listed}`,
    { details: { agents: agents.map(({ id }) => id) } })
}
