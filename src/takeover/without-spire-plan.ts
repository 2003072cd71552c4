import type { TrustDomain } from '../spiffe/trust-domain.ts'
import { parseCertificate } from '../x509/certificate.ts'
import type { AgentMove } from './agent-moves.ts'
import { x509NameOf } from './authorities.ts'
import type { DomainState } from './domain-state.ts'
import type { Finding } from './finding.ts'
import type { Journal } from './journal.ts'
import { placeSeen } from './seen-agents.ts'
import { findWithoutSpire } from './without-spire-findings.ts'

/** One of SPIRE's that our bundle has: what it signed is verified until it ends. */
export interface SpiresAuthority {
  readonly kind: 'x509' | 'jwt'
  /** By which `assay localauthority` takes it. */
  readonly authorityId: string
  /** Absent: it never ends. */
  readonly endsAt: Date | undefined
  readonly tainted: boolean
}

/** What can be told of a takeover by our server and the journal alone. */
export interface PlanWithoutSpire {
  readonly trustDomain: TrustDomain
  readonly entries: {
    /** Copied from SPIRE, and here. */
    readonly copied: number
    /** IDs of those that the journal says were copied, and are not here. */
    readonly missing: readonly string[]
    /** Made here. */
    readonly own: number
  }
  readonly authorities: readonly SpiresAuthority[]
  /** The last end of an SVID of an agent that is not here, as SPIRE told in the last round. It may have been renewed since. */
  readonly lastKnownEnd: Date | undefined
  /** No SVID that SPIRE signed is valid any longer than this; absent: it has an authority that never ends. */
  readonly lastPossibleEnd: Date | undefined
  /** Whether the journal knows agents: a build that did not write them down may have kept it. */
  readonly agentsKnown: boolean
  readonly agents: readonly AgentMove[]
  readonly findings: readonly Finding[]
}

export interface WithoutSpireContext {
  readonly journal: Journal
  readonly here: ReadonlySet<string>
  /** Whether somebody answers where SPIRE's server was. */
  readonly answers: boolean
  readonly at: Date
}

export function planWithoutSpire (ours: DomainState, { journal, here, answers, at }: WithoutSpireContext): PlanWithoutSpire {
  const { trustDomain, lastRoundAt: seenAt } = journal
  const authorities = spiresAuthorities(ours, journal)
  const lastPossibleEnd = authorities.some(({ endsAt }) => endsAt === undefined) ? undefined
    : latest([journal.startedAt, ...authorities.map(({ endsAt }) => endsAt as Date)])
  const agents = (journal.agents ?? []).map(agent => placeSeen(agent, { here, seenAt, lastPossibleEnd, at }))
  const ids = new Set(ours.entries.map(({ id }) => id))
  const missing = journal.entries.filter(id => !ids.has(id))
  const copied = journal.entries.length - missing.length
  const left = agents.filter(({ place }) => place === 'there')
  const plan = {
    trustDomain, entries: { copied, missing, own: ours.entries.length - copied }, authorities,
    lastKnownEnd: latest(left.map(({ expiresAt }) => expiresAt)), lastPossibleEnd, agentsKnown: journal.agents !== undefined, agents
  }
  return { ...plan, findings: findWithoutSpire(plan, { ours, journal, answers }) }
}

function spiresAuthorities ({ bundle }: DomainState, { published: { here } }: Journal): readonly SpiresAuthority[] {
  return [
    ...bundle.x509Authorities.filter(authority => here.x509.includes(x509NameOf(authority))).map(({ certificate, tainted }) => {
      const { notAfter, subjectKeyId } = parseCertificate(certificate)
      return { kind: 'x509' as const, authorityId: Buffer.from(subjectKeyId ?? []).toString('hex'), endsAt: notAfter, tainted }
    }),
    ...bundle.jwtAuthorities.filter(({ keyId }) => here.jwt.includes(keyId)).map(({ keyId, expiresAt, tainted }) => (
      { kind: 'jwt' as const, authorityId: keyId, endsAt: expiresAt, tainted }
    ))
  ]
}

function latest (instants: readonly Date[]): Date | undefined {
  return instants.length === 0 ? undefined : new Date(Math.max(...instants.map(Number)))
}
