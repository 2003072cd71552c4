import { SpiffeError, codeOf } from '../../spiffe/errors.ts'
import type { ConsumerProgress } from '../../wire/generated/cluster.ts'
import type { Waited } from '../convergence/await-convergence.ts'
import { lacks, nameConsumers } from '../convergence/consumers.ts'
import { waitUntilTaken } from '../convergence/wait.ts'
import { printable } from '../pretty.ts'
import type { Servers } from '../servers.ts'
import type { Terminal } from '../terminal.ts'
import { authorityConcerns } from './authority-concerns.ts'

/** Everybody must have replaced what the authority signed. */
const replaced = authorityConcerns.taint

/** Long enough for what others are changing at the moment to be acknowledged. */
export const gateMs = 2_000

export interface GateOptions {
  /** How long agents may take to catch up; with `force`, they are looked at once. */
  readonly timeoutMs: number
  readonly force: boolean
}

/** Whom a revocation may break. */
export interface Breaks {
  /** Who is not known to have replaced what the authority signed: absent agents, and with `force` live ones. */
  readonly consumers: readonly ConsumerProgress[]
  /** The server cannot tell. */
  readonly unknown: boolean
}

/**
 * Lets the revocation of an authority through when no live agent relies on it any more. Whoever is behind the log may be behind the taint.
 * @throws {SpiffeError} `authority_relied_on`, naming the live agents that would break; never with `force`
 */
export async function passRevokeGate (servers: Servers, terminal: Terminal, { timeoutMs, force }: GateOptions): Promise<Breaks> {
  const question = { since: undefined, concern: replaced, timeoutMs: force ? 0 : timeoutMs }
  const { consumers, failure } = await waitUntilTaken(servers, terminal, question)
  const unknown = codeOf(failure) === 'cluster_api_missing'
  const refused = unknown || codeOf(failure) === 'not_converged'
  if (failure !== undefined && !refused) throw failure
  if (refused && !force) throw unknown ? cannotTell(failure) : reliedOn({ consumers, failure })
  return { unknown, consumers: consumers.filter(consumer => consumer.state === 'absent' || lacks(consumer, replaced.mustServe)) }
}

/** Lines of warning for people. */
export function formatBreaks ({ consumers, unknown }: Breaks): string {
  const lines = consumers.map(consumer => `Warning: may break: ${printable(nameConsumers([consumer], replaced.mustServe))}\n`)
  return `${unknown ? 'Warning: this server cannot tell who relies on the authority\n' : ''}${lines.join('')}`
}

/** For `--output json`: nothing where nothing breaks. */
export function encodeBreaks ({ consumers, unknown }: Breaks): object {
  return { ...consumers.length > 0 ? { breaks: consumers } : {}, ...unknown ? { breaksUnknown: true } : {} }
}

function reliedOn ({ consumers, failure }: Pick<Waited, 'consumers' | 'failure'>): SpiffeError {
  const laggards = consumers.filter(consumer => lacks(consumer, replaced.mustServe))
  if (laggards.length === 0) return cannotTell(failure)
  const who = `${laggards.length} live agent${laggards.length === 1 ? '' : 's'} would break`
  return new SpiffeError('authority_relied_on', `${who}: ${nameConsumers(laggards, replaced.mustServe)}`, {
    cause: failure, details: { breaks: laggards.map(({ agentId, state }) => ({ agentId, state })) }
  })
}

function cannotTell (cause: unknown): SpiffeError {
  return new SpiffeError('authority_relied_on', `it cannot be told who relies on the authority: ${(cause as Error).message}`, { cause })
}
