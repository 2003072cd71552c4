import type { PartnerState, SourceState } from '../../federation/client/partner-state.ts'
import type { ErrorCode } from '../../spiffe/errors.ts'

/** What only who follows a partner knows of it; the rest is told by the bundle in force. */
export type PartnerFacts = Pick<PartnerState, 'sources' | 'failures' | 'lastSuccessAt' | 'suppliedBy' | 'nextPollAt'>

export function factsOf ({ sources, failures, lastSuccessAt, suppliedBy, nextPollAt }: PartnerState): PartnerFacts {
  return { sources, failures, lastSuccessAt, suppliedBy, nextPollAt }
}

/**
 * Who takes the partners over knows nothing of what came before: what was known goes on until its own polls have told better. Of another
 * endpoint than before, nothing does.
 */
export function carryOver (before: PartnerFacts | undefined, now: PartnerFacts): PartnerFacts {
  const [endpoint] = now.sources
  if (before === undefined || endpoint === undefined || before.sources[0]?.name !== endpoint.name) return now
  const succeeded = now.lastSuccessAt !== undefined
  return {
    sources: now.sources.map(source => continued(before.sources.find(({ name }) => name === source.name), source)),
    failures: endpoint.lastSuccessAt === undefined ? before.failures + now.failures : now.failures,
    lastSuccessAt: succeeded ? now.lastSuccessAt : before.lastSuccessAt,
    suppliedBy: succeeded ? now.suppliedBy : before.suppliedBy,
    nextPollAt: now.nextPollAt
  }
}

function continued (before: SourceState | undefined, now: SourceState): SourceState {
  if (before === undefined || now.lastSuccessAt !== undefined) return now
  return { ...now, lastSuccessAt: before.lastSuccessAt, lastError: now.lastError ?? before.lastError }
}

/** As JSON. */
export function encodeFacts ({ sources, failures, lastSuccessAt, suppliedBy, nextPollAt }: PartnerFacts): Record<string, unknown> {
  return {
    failures, suppliedBy, lastSuccessAt: lastSuccessAt?.getTime(), nextPollAt: nextPollAt?.getTime(),
    sources: sources.map(({ name, lastSuccessAt, lastError }) => ({
      name, lastSuccessAt: lastSuccessAt?.getTime(), lastError: lastError && { ...lastError, at: lastError.at.getTime() }
    }))
  }
}

interface StoredSource {
  readonly name: string
  readonly lastSuccessAt?: number
  readonly lastError?: { readonly at: number, readonly code?: ErrorCode, readonly requirement?: string, readonly message: string }
}

/** What `encodeFacts` gave, of this or another version: what is not there is not known. */
export function decodeFacts (facts: Readonly<Record<string, unknown>>): PartnerFacts {
  const { failures = 0, suppliedBy, lastSuccessAt, nextPollAt, sources = [] } = facts as {
    failures?: number, suppliedBy?: string, lastSuccessAt?: number, nextPollAt?: number, sources?: readonly StoredSource[]
  }
  return {
    failures, suppliedBy, lastSuccessAt: date(lastSuccessAt), nextPollAt: date(nextPollAt),
    sources: sources.map(({ name, lastSuccessAt, lastError }) => ({
      name, lastSuccessAt: date(lastSuccessAt), lastError: lastError && {
        at: new Date(lastError.at), code: lastError.code, requirement: lastError.requirement, message: lastError.message
      }
    }))
  }
}

function date (ms: number | undefined): Date | undefined { return ms === undefined ? undefined : new Date(ms) }
