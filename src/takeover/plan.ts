import type { TrustDomain } from '../spiffe/trust-domain.ts'
import type { Agent, Bundle as BundleMessage, Entry, FederationRelationship } from '../wire/generated/types.ts'
import { spiffeIdText } from '../wire/spiffe-id-codec.ts'
import { planAgents, type AgentMove } from './agent-moves.ts'
import { missingIn, outdatedCopies, type Authorities, type OutdatedCopies } from './authorities.ts'
import { diffEntries, type EntryDiff } from './diff-entries.ts'
import type { DomainState } from './domain-state.ts'
import type { Finding } from './finding.ts'
import { findAll } from './findings.ts'
import type { Journal } from './journal.ts'
import type { Attestors } from './servable.ts'

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
  readonly attestors: Attestors
  readonly at: Date
}

/** @param there SPIRE's side @param ours our server's, of the same trust domain */
export function planTakeover (there: DomainState, ours: DomainState, { journal, here, attestors, at }: PlanContext): TakeoverPlan {
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
  const agents = planAgents({
    agents: there.agents, ours: ours.agents, evicted: evicted.filter(({ id }) => here.has(spiffeIdText(id)))
  }, [...there.entries, ...keptAliases], { here, attestors, trustDomain, at })
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
    findings: findAll({
      there, ours, entries, agents, keptAliases, publishedThere: published.there, phase: journal?.phase, attestors, at
    })
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
