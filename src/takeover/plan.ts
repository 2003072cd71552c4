import type { TrustDomain } from '../spiffe/trust-domain.ts'
import type { Agent, Bundle as BundleMessage, Entry, FederationRelationship } from '../wire/generated/types.ts'
import { spiffeIdText } from '../wire/spiffe-id-codec.ts'
import { planAgents, type AgentMove } from './agent-moves.ts'
import { clashingKeyIds, endOf, missingIn, outdatedCopies, x509NameOf, type Authorities, type OutdatedCopies } from './authorities.ts'
import { raisedSequence, type BundleSequences } from './bundle-sequence.ts'
import { diffEntries, type EntryDiff } from './diff-entries.ts'
import type { DomainState } from './domain-state.ts'
import type { Finding } from './finding.ts'
import type { Journal, Phase } from './journal.ts'
import { unservable } from './servable.ts'

/** What is between two servers of one trust domain, and what stands in the way of moving from one to the other. */
export interface TakeoverPlan {
  readonly trustDomain: TrustDomain
  readonly authorities: {
    /** Ours, which SPIRE's bundle lacks. */
    readonly toThere: Authorities
    /** SPIRE's, which our bundle lacks. */
    readonly toHere: Authorities
  }
  /** SPIRE's relationships that our server lacks, with the bundle that SPIRE has of them. */
  readonly relationships: readonly FederationRelationship[]
  /** Bundles of other trust domains that our server lacks, without a relationship. */
  readonly bundles: readonly BundleMessage[]
  readonly entries: EntryDiff
  readonly agents: readonly AgentMove[]
  /** SPIRE's authorities in our bundle that SPIRE has tainted or revoked since. */
  readonly outdated: OutdatedCopies
  readonly findings: readonly Finding[]
}

export interface PlanContext {
  readonly journal: Pick<Journal, 'entries' | 'published' | 'phase'> | undefined
  /** IDs of agents that our server has heard of lately. */
  readonly here: ReadonlySet<string>
  readonly at: Date
}

/** @param there SPIRE's side @param ours our server's, of the same trust domain */
export function planTakeover (there: DomainState, ours: DomainState, { journal, here, at }: PlanContext): TakeoverPlan {
  const { trustDomain } = there.bundle
  const published = journal?.published ?? { there: noNames, here: noNames }
  const known = new Set(ours.relationships.map(({ trustDomain }) => trustDomain))
  const knownBundles = new Set(ours.federatedBundles.map(({ trustDomain }) => trustDomain))
  const bundleOf = (name: string) => there.federatedBundles.find(bundle => bundle.trustDomain === name)
  const relationships = there.relationships.filter(({ trustDomain }) => !known.has(trustDomain))
  const diff = diffEntries(there.entries, ours.entries, new Set(journal?.entries))
  const evicted = evictedAgents(there, ours)
  const keptAliases = aliasesOfEvicted(ours, diff, evicted)
  const entries = { ...diff, remove: diff.remove.filter(id => !keptAliases.some(alias => alias.id === id)) }
  const agents = planAgents({ agents: there.agents, evicted: evicted.filter(({ id }) => here.has(spiffeIdText(id))) },
    [...there.entries, ...keptAliases], here, trustDomain, at)
  return {
    trustDomain,
    authorities: {
      toThere: missingIn(there.bundle, ours.bundle, published.here, at), toHere: missingIn(ours.bundle, there.bundle, published.there, at)
    },
    relationships: relationships.map(relationship => ({
      ...relationship, trustDomainBundle: bundleOf(relationship.trustDomain)
    })),
    bundles: there.federatedBundles.filter(({ trustDomain }) =>
      !knownBundles.has(trustDomain) && !relationships.some(one => one.trustDomain === trustDomain)),
    entries, agents,
    outdated: outdatedCopies(there.bundle, ours.bundle, published.here, at),
    findings: [
      ...blocking(there, ours, entries), ...differingRelationships(there, ours), ...staying(there, agents),
      ...kept(outdatedCopies(ours.bundle, there.bundle, published.there, at)), ...keptAliases.map(aliasKept),
      ...byHand(there, ours, journal?.phase)
    ]
  }
}

const noNames = { x509: [], jwt: [] }

/** What our server has an agent of and SPIRE's none any more. */
function evictedAgents (there: DomainState, ours: DomainState): readonly Agent[] {
  const known = new Set(there.agents.map(({ id }) => spiffeIdText(id)))
  return ours.agents.filter(({ id, banned }) => !banned && !known.has(spiffeIdText(id)))
}

/**
 * With an agent that joined by a token SPIRE removes the alias that it made with the token. Where the agent has moved, it was evicted or
 * pruned because it had: what it serves below that alias stays.
 */
function aliasesOfEvicted ({ entries }: DomainState, { remove }: EntryDiff, evicted: readonly Agent[]): readonly Entry[] {
  const gone = new Set(remove)
  const ids = new Set(evicted.map(({ id }) => spiffeIdText(id)))
  return entries.filter(({ id, parentId, selectors: [selector, ...more] }) => {
    const parent = spiffeIdText(parentId)
    return gone.has(id) && ids.has(parent) && selector?.type === 'spiffe_id' && selector.value === parent && more.length === 0
  })
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

function staying (there: DomainState, agents: readonly AgentMove[]): readonly Finding[] {
  return [
    ...there.entries.flatMap(entry => {
      const why = unservable(entry)
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
    ...there.entries.filter(({ downstream }) => downstream).map(({ spiffeId }) => ({
      kind: 'by-hand' as const, code: 'server-below', about: spiffeIdText(spiffeId), message: 'a server below gets its CA from SPIRE',
      next: 'once its agent has moved, give its upstream authority our server\'s address, and restart it'
    })),
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
