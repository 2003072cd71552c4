import type { Invitation } from '../../federation/invitation/invitation.ts'
import type { TrustDomain } from '../../spiffe/trust-domain.ts'
import { counted, formatRows, formatTime, printable } from '../pretty.ts'
import type { ActiveScope, PolicyFacts } from './active-scopes.ts'
import type { Accepted } from './invitation-anchor.ts'

const checks: Readonly<Record<Accepted['checkedBy'], string>> = {
  given: 'the bundle that you gave',
  stored: 'the bundle of that domain that is stored here, which stays',
  carried: 'the bundle that it carries: compare the pin with who sent it',
  fetched: 'the bundle that its endpoint serves, which has this pin: compare the pin with who sent it'
}

interface Facts {
  readonly accepted: Accepted
  readonly own: TrustDomain
  /** That federate with the inviting domain already. */
  readonly entries: number
  readonly policies: PolicyFacts
  readonly now: Date
}

/** What an invitation says, and in words what accepting it means. */
export function formatInvitation ({ endpoint, pin, scope, expiresAt }: Invitation, facts: Facts): string {
  const { own, accepted, entries } = facts
  const { bundle, checkedBy } = accepted
  const { trustDomain, url, profile } = endpoint
  const rows = formatRows([
    ['Invitation of', trustDomain],
    ['Bundle endpoint URL', url],
    ['Bundle endpoint profile', profile.kind],
    ['Endpoint SPIFFE ID', profile.kind === 'https_spiffe' ? profile.endpointId : undefined],
    ['Pin', pin],
    ['Authorities', bundle && `${bundle.x509Authorities.length} X.509, ${bundle.jwtAuthorities.length} JWT`],
    ['Checked by', checks[checkedBy]],
    ['Can be accepted until', formatTime(expiresAt)],
    ['They ask for', scope === '' ? 'nothing in particular' : scope]
  ], 26)
  return `${rows}\nIf you accept, ${own} takes SVIDs of ${trustDomain} for what they say. ${reachable(trustDomain, entries)}\n` +
    allowed(facts)
}

function reachable (trustDomain: TrustDomain, entries: number): string {
  if (entries > 0) {
    const what = counted(entries, 'entry that federates with them already', 'entries that federate with them already')
    return `They will be able to reach: ${what}, as far as policies allow.`
  }
  return 'They will be able to reach: nothing, until an entry\nfederates with them (-federatesWith) and, where policies are active, ' +
    `a FederationScope says what of ${printable(trustDomain)} may reach what.`
}

/** What they may do already, by policies that are there: they may have been partners before. */
function allowed ({ policies, now }: Facts): string {
  if (policies === 'none') return ''
  if (policies === 'unreadable') return 'Which policies are active you may not read.\n'
  const { version, scopes } = policies
  const active = `Version ${version} of the policies is active`
  if (scopes.length === 0) return `${active} and has no FederationScope of them: it lets nobody of theirs in.\n`
  return `${active} and lets in already:\n${scopes.map(scope => `  ${printable(describeScope(scope, now))}\n`).join('')}`
}

function describeScope ({ accept, workloads, until }: ActiveScope, now: Date): string {
  const who = accept.length === 0 ? 'nobody' : accept.join(', ')
  const where = workloads === undefined ? 'all workloads that rules let them reach' : workloads.join(', ')
  const end = until === undefined ? '' : until <= now ? `; it ended at ${formatTime(until)}` : `; until ${formatTime(until)}`
  return `${who} to ${where}${end}`
}
