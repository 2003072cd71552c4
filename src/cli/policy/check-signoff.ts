import { readEvents } from '../../authz/decision-log/read-events.ts'
import { compareRecorded } from '../../authz/flips/compare-recorded.ts'
import { readSignoff, requireSignoff } from '../../authz/flips/signoff.ts'
import { directoryOf, parseEntries } from '../../authz/lint/registered-entries.ts'
import { foreignKinds } from '../../authz/policy/foreign-kinds.ts'
import { noPolicies, type PolicySet } from '../../authz/policy/policy-set.ts'
import { readPolicySet } from '../../authz/policy/read-policy-set.ts'
import { resolveSelectors } from '../../authz/policy/resolve-selectors.ts'
import { readInputJson, readInputText } from '../read-input.ts'
import type { Servers } from '../servers.ts'
import type { Terminal } from '../terminal.ts'
import { getPolicies } from './policy-calls.ts'

export interface SignoffPaths {
  /** A decision log. */
  readonly against: string
  readonly signoff: string | undefined
  readonly entries: string | undefined
}

/**
 * Decides recorded requests again, by what is active and by what is to be.
 * @param replaces the active version; 0: none
 * @throws {SpiffeError} `policy_not_signed_off` for an answer that changes and that nobody has reviewed; `policy_unsupported` for selectors
 * without entries
 */
export async function checkSignoff (
  { against, signoff, entries }: SignoffPaths, candidate: PolicySet, replaces: number, servers: Servers, terminal: Terminal
): Promise<void> {
  const registered = entries === undefined ? undefined : directoryOf(parseEntries(entries, await readInputJson(entries, terminal)))
  const signoffs = signoff === undefined ? [] : readSignoff({ name: signoff, text: await readInputText(signoff, terminal) })
  const before = replaces === 0 ? noPolicies : await activeSet(candidate, replaces, servers, terminal.signal)
  const report = await compareRecorded(readEvents(against), resolveSelectors(before, registered), resolveSelectors(candidate, registered))
  requireSignoff(report, signoffs)
}

async function activeSet ({ trustDomain }: PolicySet, version: number, servers: Servers, signal: AbortSignal): Promise<PolicySet> {
  const { documents } = await servers.ask(channel => getPolicies(channel, version, signal))
  return readPolicySet(documents, { trustDomain: trustDomain as NonNullable<typeof trustDomain>, foreign: foreignKinds })
}
