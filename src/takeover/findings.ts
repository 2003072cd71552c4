import type { TrustDomain } from '../spiffe/trust-domain.ts'
import type { Entry, FederationRelationship } from '../wire/generated/types.ts'
import { spiffeIdText } from '../wire/spiffe-id-codec.ts'
import { aliasesOfPods, type AgentMove } from './agent-moves.ts'
import { clashingKeyIds, endOf, outdatedCopies, x509NameOf, type AuthorityNames, type OutdatedCopies } from './authorities.ts'
import { bansNotHere } from './bans.ts'
import { raisedSequence, type BundleSequences } from './bundle-sequence.ts'
import type { EntryDiff } from './diff-entries.ts'
import type { DomainState } from './domain-state.ts'
import type { Finding } from './finding.ts'
import type { Phase } from './journal.ts'
import { serversBelow } from './servers-below.ts'
import { unservable, type Attestors } from './servable.ts'

export interface Findable {
  readonly there: DomainState
  readonly ours: DomainState
  readonly entries: EntryDiff
  readonly agents: readonly AgentMove[]
  /** SPIRE has removed them with agents that are here. */
  readonly keptAliases: readonly Entry[]
  /** Names of authorities of ours that SPIRE's bundle got. */
  readonly publishedThere: AuthorityNames
  readonly phase: Phase | undefined
  readonly attestors: Attestors
  readonly at: Date
}

/** What stands in the way, what cannot move, and what is left to the operator, in this order. */
export function findAll (found: Findable): readonly Finding[] {
  const { there, ours, entries, agents, keptAliases, publishedThere, phase, attestors, at } = found
  return [
    ...blocking(there, ours, entries), ...differingRelationships(there, ours), ...staying(there, agents, attestors),
    ...kept(outdatedCopies(ours.bundle, there.bundle, publishedThere, at)), ...keptAliases.map(aliasKept),
    ...serversBelow(there.entries, agents, phase), ...podAliases(there, agents), ...bansNotHere(agents, ours.agents),
    ...byHand(there, ours, phase)
  ]
}

function aliasKept ({ id, spiffeId, parentId }: Entry): Finding {
  return {
    kind: 'by-hand', code: 'alias-kept', about: id,
    message: `SPIRE removed ${spiffeIdText(spiffeId)} with ${spiffeIdText(parentId)}, which is here: the alias stays here`,
    next: 'before that agent goes back, make the entry at SPIRE anew; the roll-back of a finished takeover does'
  }
}

/** SPIRE's API neither taints nor revokes what was appended. */
function kept ({ x509, jwt }: OutdatedCopies): readonly Finding[] {
  const finding = (about: string, what: string, revoked: boolean, end: Date | undefined) => ({
    kind: 'by-hand' as const, code: 'authority-kept', about,
    message: `${revoked ? 'revoked' : 'tainted'} here, ${what} stays in SPIRE's bundle until ` +
      (end?.toISOString() ?? 'somebody takes it out'),
    next: 'if it was stolen, move all agents and end the takeover: SPIRE\'s agents trust it till then'
  })
  return [
    ...x509.map(({ authority, revoked }) => finding(x509NameOf(authority), 'the X.509 authority', revoked, endOf(authority))),
    ...jwt.map(({ authority, revoked }) => finding(authority.keyId, 'the JWT authority', revoked, authority.expiresAt))
  ]
}

function blocking (there: DomainState, ours: DomainState, { conflicts, remove, same }: EntryDiff): readonly Finding[] {
  return [
    ...isSameServer(there, ours) ? [{
      kind: 'blocks' as const, code: 'same-server', about: there.bundle.trustDomain,
      message: 'both addresses are of one server, or of replicas of one',
      next: 'give SPIRE\'s socket by -spireSocketPath, ours by -socketPath'
    }] : [],
    ...clashingKeyIds(there.bundle, ours.bundle).map(keyId => ({
      kind: 'blocks' as const, code: 'key-id-clash', about: keyId, message: 'both sides have a JWT key of this ID, and not the same key',
      next: 'rotate ours: assay localauthority jwt prepare, activate, taint, revoke'
    })),
    ...conflicts.map(({ entry, with: other, why }) => ({
      kind: 'blocks' as const, code: 'entry-conflict', about: entry.id,
      message: `${spiffeIdText(entry.spiffeId)}: ${why} here: ${other.id} (${spiffeIdText(other.spiffeId)})`,
      next: `remove that one: assay entry delete -entryID ${other.id}`
    })),
    ...remove.length > fewRemovals && remove.length * 2 > remove.length + same ? [{
      kind: 'blocks' as const, code: 'many-removals', about: there.bundle.trustDomain,
      message: `SPIRE has lost ${remove.length} of the entries that were copied: their copies would go as well`,
      next: 'see that SPIRE\'s database is the right one; -force removes them'
    }] : []
  ]
}

/** Up to so many may go at once, whatever share of all they are. */
const fewRemovals = 10

/** Bundles say the same on both sides once each has the other's authorities; what signs is each server's own. */
function isSameServer (there: DomainState, ours: DomainState): boolean {
  return there.active.x509 !== '' && there.active.x509 === ours.active.x509 && there.active.jwt === ours.active.jwt
}

function differingRelationships (there: DomainState, ours: DomainState): readonly Finding[] {
  return there.relationships.flatMap(relationship => {
    const other = ours.relationships.find(({ trustDomain }) => trustDomain === relationship.trustDomain)
    if (other === undefined || sameEndpoint(relationship, other)) return []
    return [{
      kind: 'blocks' as const, code: 'relationship-differs', about: relationship.trustDomain,
      message: `SPIRE fetches its bundle from ${relationship.bundleEndpointUrl}, our server from ${other.bundleEndpointUrl}`,
      next: `make them the same: assay federation update -trustDomain ${relationship.trustDomain}`
    }]
  })
}

function sameEndpoint (a: FederationRelationship, b: FederationRelationship): boolean {
  return a.bundleEndpointUrl === b.bundleEndpointUrl && a.httpsSpiffe?.endpointSpiffeId === b.httpsSpiffe?.endpointSpiffeId &&
    (a.httpsWeb === undefined) === (b.httpsWeb === undefined)
}

function staying (there: DomainState, agents: readonly AgentMove[], attestors: Attestors): readonly Finding[] {
  return [
    ...there.entries.flatMap(entry => {
      const why = unservable(entry, attestors)
      return why === undefined ? [] : [{
        kind: 'stays' as const, code: 'entry-not-served', about: entry.id, message: `${spiffeIdText(entry.spiffeId)}: ${why}`,
        next: 'leave its agent at SPIRE, or give the workload another entry first'
      }]
    }),
    ...agents.filter(({ how, place }) => how === undefined && place === 'there').map(({ id, attestationType }) => ({
      kind: 'stays' as const, code: 'attestor-missing', about: id,
      message: `its node attests by ${attestationType}, which is not there here`,
      next: 'let it join SPIRE by x509pop, k8s_psat or a join token first, and its entries name that ID'
    }))
  ]
}

/** Our agents run in pods of their own. */
function podAliases ({ agents, entries, bundle }: DomainState, moves: readonly AgentMove[]): readonly Finding[] {
  const there = new Set(moves.filter(({ place }) => place === 'there').map(({ id }) => id))
  const aliases = aliasesOfPods(agents.filter(({ id }) => there.has(spiffeIdText(id))), entries, bundle.trustDomain)
  return [...aliases].map(([{ id, spiffeId }, selectors]) => ({
    kind: 'by-hand', code: 'agent-pod', about: id,
    message: `${spiffeIdText(spiffeId)} is of agents whose pods have ${selectors.join(', ')}`,
    next: 'run ours in this namespace, by this account, with these labels; else what is below it is lost'
  }))
}

/** Partners that run Assay go by the number, others do not. SPIRE's API raises none: its own has to grow on the way back. */
function sequenceFinding (trustDomain: TrustDomain, { there, here }: BundleSequences, phase: Phase | undefined): readonly Finding[] {
  const numbers = `SPIRE's bundle has the sequence number ${there}, ours ${here}`
  const finding = (message: string) => [{
    kind: 'by-hand' as const, code: 'bundle-sequence', about: trustDomain, message,
    next: 'have partners that run Assay store it anew, once they fetch it: assay bundle set'
  }]
  if (phase === 'rolled_back') return here <= there ? [] : finding(
    `${numbers}: partners that fetched ours take SPIRE's for an old one until it has passed it`)
  if (here >= there || raisedSequence({ there, here }) !== undefined) return []
  return finding(`${numbers}, which is not raised so far: who counts takes ours for an old one`)
}

function byHand (there: DomainState, ours: DomainState, phase: Phase | undefined): readonly Finding[] {
  const { trustDomain } = there.bundle
  return [
    ...there.federatedBundles.filter(({ trustDomain }) => !there.relationships.some(one => one.trustDomain === trustDomain))
      .map(({ trustDomain }) => ({
        kind: 'by-hand' as const, code: 'bundle-not-followed', about: trustDomain,
        message: 'SPIRE has its bundle and no relationship: somebody set it, or the configuration has one (federates_with)',
        next: 'in the latter case have our server follow it: assay federation create'
      })),
    ...sequenceFinding(trustDomain, { there: there.bundle.sequenceNumber ?? 0n, here: ours.bundle.sequenceNumber ?? 0n }, phase),
    {
      kind: 'by-hand', code: 'configuration', about: trustDomain, message: 'no API tells what is in SPIRE\'s configuration',
      next: 'read its file: assay server validate -config server.conf names what is not there here; admin_ids are a part of it'
    },
    {
      kind: 'by-hand', code: 'join-tokens', about: trustDomain, message: 'no API tells which join tokens are not used yet',
      next: 'make new ones here: assay token generate'
    },
    {
      kind: 'by-hand', code: 'bundle-endpoint', about: trustDomain, message: 'partners fetch the bundle from SPIRE\'s endpoint',
      next: 'before the takeover is finished, let that name lead to our server\'s'
    }
  ]
}
