import { bansNotHere } from './bans.ts'
import type { DomainState } from './domain-state.ts'
import type { Finding } from './finding.ts'
import type { Journal } from './journal.ts'
import { serversBelow } from './servers-below.ts'
import type { PlanWithoutSpire, SpiresAuthority } from './without-spire-plan.ts'

interface Alone {
  readonly ours: DomainState
  readonly journal: Journal
  readonly answers: boolean
}

/** What is in the way of an end without SPIRE's server, what went with it, and what is left to the operator, in this order. */
export function findWithoutSpire (plan: Omit<PlanWithoutSpire, 'findings'>, { ours, journal, answers }: Alone): readonly Finding[] {
  const { trustDomain } = plan
  const seen = journal.lastRoundAt.toISOString()
  return [
    ...answers ? [spireAnswers(trustDomain, journal)] : [], ...notCopied(plan, journal),
    {
      kind: 'lost', code: 'unseen-changes', about: trustDomain,
      message: `entries, agents, bans and partners that changed at SPIRE after ${seen} are not here, and nobody can tell which`,
      next: 'compare the entries here with what makes them: assay entry show'
    },
    {
      kind: 'lost', code: 'no-way-back', about: trustDomain, message: 'there is no SPIRE server to give the trust domain back to',
      next: 'if you have a backup of its database and keys, restore that instead, and go on with the takeover'
    },
    ...lostAgents(plan, seen), ...serversBelow(ours.entries, plan.agents, 'gone'),
    ...bansNotHere(plan.agents, ours.agents), ...plan.authorities.map(stillTrusted),
    {
      kind: 'by-hand', code: 'bundle-endpoint', about: trustDomain,
      message: 'partners that fetch the bundle from SPIRE\'s endpoint get none',
      next: 'let that name lead to our server\'s'
    },
    {
      kind: 'by-hand', code: 'join-tokens', about: trustDomain, message: 'join tokens of SPIRE\'s that nobody used are gone',
      next: 'make new ones here: assay token generate'
    }
  ]
}

/** Two servers that each think they are the one: entries would differ, and nobody would be told. */
function spireAnswers (about: string, { phase }: Journal): Finding {
  const message = 'somebody answers where SPIRE\'s server was'
  return phase === 'finished'
    ? { kind: 'by-hand', code: 'spire-answers', about, message, next: 'stop it: what it signs is trusted here, and its entries are old' }
    : { kind: 'blocks', code: 'spire-answers', about, message, next: 'it is not gone: use the command without -spireGone' }
}

function notCopied ({ trustDomain, entries: { copied, missing } }: Omit<PlanWithoutSpire, 'findings'>, { phase }: Journal): Finding[] {
  if (phase === 'publishing') {
    return [{
      kind: 'blocks', code: 'entries-not-copied', about: trustDomain,
      message: `SPIRE's server was gone before agents could move: ${copied} of its entries are here, and there may be more`,
      next: 'restore SPIRE\'s database, or make its entries here (assay entry create -data) and end with -force'
    }]
  }
  // Afterwards somebody may well have removed some.
  return phase === 'finished' ? [] : missing.map(id => ({
    kind: 'lost', code: 'entry-missing', about: id, message: 'it was copied from SPIRE, or about to be, and is not here',
    next: 'if nobody removed it on purpose, make it anew: assay entry create'
  }))
}

function lostAgents ({ agents, agentsKnown, trustDomain }: Omit<PlanWithoutSpire, 'findings'>, seen: string): Finding[] {
  if (!agentsKnown) {
    return [{
      kind: 'lost', code: 'agents-unknown', about: trustDomain, message: 'an earlier build kept the state file, without SPIRE\'s agents',
      next: 'those that are here: assay agent list; move all others that you know of'
    }]
  }
  const next = (how: string | undefined) => how === undefined
    ? 'let the node join our server by x509pop, k8s_psat or a new join token, and give its entries that ID'
    : how === 'same-token' ? 'move it: assay takeover token -spireGone' : 'move it: start our agent on its node'
  return agents.filter(({ place }) => place === 'there').map(({ id, expiresAt, how }) => ({
    kind: 'lost', code: 'renews-no-more', about: id,
    message: 'it and its workloads go on until their SVIDs end, and get no others; ' +
      `as of ${seen} its own ends at ${expiresAt.toISOString()}`,
    next: next(how)
  }))
}

function stillTrusted ({ kind, authorityId, endsAt, tainted }: SpiresAuthority): Finding {
  return {
    kind: 'by-hand', code: 'spire-authority', about: authorityId,
    message: `what SPIRE's ${kind === 'x509' ? 'X.509' : 'JWT'} authority signed is verified until ` +
      `${endsAt?.toISOString() ?? 'it is revoked'}${tainted ? '; it is tainted' : ''}`,
    next: `if its keys may be in other hands: assay localauthority ${kind} taint, then revoke, -authorityID ${authorityId}`
  }
}
