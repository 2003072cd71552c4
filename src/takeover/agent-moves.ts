import type { Agent, Entry } from '../wire/generated/types.ts'
import { spiffeIdText } from '../wire/spiffe-id-codec.ts'
import { serverIdOf } from '../spiffe/member-id.ts'
import type { TrustDomain } from '../spiffe/trust-domain.ts'
import { unservable, type Attestors } from './servable.ts'

/**
 * `there`: at SPIRE, as far as its SVID tells; `here`: connected to our server; `gone`: its SVID ended, and it is not here; `banned`.
 */
export type AgentPlace = 'there' | 'here' | 'gone' | 'banned'

export interface AgentMove {
  readonly id: string
  readonly attestationType: string
  readonly place: AgentPlace
  readonly expiresAt: Date
  /** How it keeps its entries: by its ID, or, where that is another one afterwards, by aliases alone; `undefined`: it does not. */
  readonly how: 'attests-alike' | 'same-token' | 'by-alias' | undefined
  /** Why moving it would break somebody. */
  readonly obstacles: readonly string[]
  /** IDs of downstream entries that are its own: of servers below that get their identity from it. */
  readonly downstream: readonly string[]
}

export interface KnownAgents {
  /** As SPIRE's server lists them. */
  readonly agents: readonly Agent[]
  /** At our server and not at SPIRE's any more; shown where entries are theirs. */
  readonly evicted: readonly Agent[]
  /** As our server lists them: what it found of their nodes. */
  readonly ours: readonly Agent[]
}

/** Of `k8s_psat`: of the agent's own pod, which is another one afterwards; and of what a pod may have in common with it. */
const ofOnePod = /^agent_pod_(?:name|uid):/
const ofPodsAlike = /^agent_(?:ns|sa|pod_label):/

export interface AgentsContext {
  /** IDs of agents that our server has heard of lately. */
  readonly here: ReadonlySet<string>
  readonly attestors: Attestors
  readonly trustDomain: TrustDomain
  /** By which SVIDs have ended or not. */
  readonly at: Date
}

export function planAgents (
  { agents, evicted, ours }: KnownAgents, entries: readonly Entry[], { here, attestors, trustDomain, at }: AgentsContext
): readonly AgentMove[] {
  const parents = Map.groupBy(entries, ({ parentId }) => spiffeIdText(parentId))
  const aliases = parents.get(serverIdOf(trustDomain)) ?? []
  const known = new Map(ours.map(agent => [spiffeIdText(agent.id), agent]))
  const belowAliases = (agent: Agent, aliases: readonly Entry[]) =>
    entriesBelow([spiffeIdText(agent.id), ...aliases.map(alias => spiffeIdText(alias.spiffeId))], parents)
  const below = (agent: Agent) => belowAliases(agent, aliases.filter(alias => fits(alias, agent)))
  /** What its aliases gave it at SPIRE and do not here. */
  const lost = (agent: Agent) => {
    const id = spiffeIdText(agent.id)
    const moved = here.has(id) ? known.get(id) : undefined
    const kept = new Set(belowAliases(agent, aliases.filter(alias =>
      fits(alias, agent) && (moved === undefined ? !needs(alias, ofOnePod) : fits(alias, moved)))))
    return below(agent).filter(entry => !kept.has(entry))
  }
  return [...agents, ...evicted.filter(agent => below(agent).length > 0)].map(agent => {
    const id = spiffeIdText(agent.id)
    const expiresAt = new Date(Number(agent.x509svidExpiresAt) * 1_000)
    const how = howOf(id, agent.attestationType, attestors)
    const bound = how === 'by-alias' ? parents.get(id) ?? [] : []
    return {
      id, attestationType: agent.attestationType, expiresAt, how,
      place: agent.banned ? 'banned' : here.has(id) ? 'here' : expiresAt > at ? 'there' : 'gone',
      obstacles: [
        ...how === undefined ? [`its node attests by ${agent.attestationType}, which our agents do not: it would get another ID`] : [],
        ...bound.map(({ id: entry }) => `entry ${entry} is below the ID of its pod, and our agent's pod has another`),
        ...lost(agent).map(entry =>
          `entry ${entry.id} (${spiffeIdText(entry.spiffeId)}) is below an alias by selectors that our agent's node does not have`),
        ...below(agent).flatMap(entry => {
          const why = unservable(entry, attestors)
          return why === undefined ? [] : [`entry ${entry.id} (${spiffeIdText(entry.spiffeId)}): ${why}`]
        })
      ],
      downstream: below(agent).filter(({ downstream }) => downstream).map(({ id }) => id)
    }
  })
}

/** Aliases that agents in Kubernetes keep if ours run as SPIRE's do; with the selectors that say so. */
export function aliasesOfPods (
  agents: readonly Agent[], entries: readonly Entry[], trustDomain: TrustDomain
): ReadonlyMap<Entry, readonly string[]> {
  const server = serverIdOf(trustDomain)
  return new Map(entries
    .filter(alias => spiffeIdText(alias.parentId) === server && needs(alias, ofPodsAlike) && agents.some(agent => fits(alias, agent)))
    .map(alias => [alias, alias.selectors.map(({ value }) => value).filter(value => ofPodsAlike.test(value))]))
}

function needs ({ selectors }: Entry, what: RegExp): boolean {
  return selectors.some(({ type, value }) => type === 'k8s_psat' && what.test(value))
}

/** A server may call agents in Kubernetes by their pods: then each pod's agent is another one, and selectors find its aliases. */
function howOf (id: string, attestationType: string, { node }: Attestors): AgentMove['how'] {
  if (attestationType === 'k8s_psat' && /\/spire\/agent\/k8s_psat\/[^/]+\/pod\//.test(id)) return 'by-alias'
  if (!node.has(attestationType)) return undefined
  // Those of SPIRE's names give a node the ID and the selectors that SPIRE's do.
  return attestationType === 'join_token' ? 'same-token' : 'attests-alike'
}

function fits (alias: Entry, agent: Agent): boolean {
  return alias.selectors.every(({ type, value }) => agent.selectors.some(own => own.type === type && own.value === value))
}

function entriesBelow (ids: readonly string[], parents: ReadonlyMap<string, readonly Entry[]>): readonly Entry[] {
  const seen = new Set(ids)
  const queue = [...seen]
  const found: Entry[] = []
  for (let id = queue.pop(); id !== undefined; id = queue.pop()) {
    for (const entry of parents.get(id) ?? []) {
      found.push(entry)
      const below = spiffeIdText(entry.spiffeId)
      if (!seen.has(below)) queue.push(below)
      seen.add(below)
    }
  }
  return found
}
