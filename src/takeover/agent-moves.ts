import type { Agent, Entry } from '../wire/generated/types.ts'
import { spiffeIdText } from '../wire/spiffe-id-codec.ts'
import { serverIdOf } from '../spiffe/member-id.ts'
import type { TrustDomain } from '../spiffe/trust-domain.ts'
import { unservable } from './servable.ts'

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
}

/** Node attestors of both that give a node the same ID and selectors. */
const attestsAlike: ReadonlySet<string> = new Set(['x509pop', 'k8s_psat', 'sshpop', 'http_challenge'])

/**
 * @param agents as SPIRE's server lists them
 * @param evicted at our server and not at SPIRE's any more; shown where entries are theirs
 * @param here IDs of agents that our server has heard of lately
 * @param at by which SVIDs have ended or not
 */
export function planAgents (
  { agents, evicted }: { readonly agents: readonly Agent[], readonly evicted: readonly Agent[] }, entries: readonly Entry[],
  here: ReadonlySet<string>, trustDomain: TrustDomain, at: Date
): readonly AgentMove[] {
  const parents = Map.groupBy(entries, ({ parentId }) => spiffeIdText(parentId))
  const aliases = parents.get(serverIdOf(trustDomain)) ?? []
  const below = (agent: Agent) => entriesBelow([
    spiffeIdText(agent.id), ...aliases.filter(alias => fits(alias, agent)).map(alias => spiffeIdText(alias.spiffeId))
  ], parents)
  return [...agents, ...evicted.filter(agent => below(agent).length > 0)].map(agent => {
    const id = spiffeIdText(agent.id)
    const expiresAt = new Date(Number(agent.x509svidExpiresAt) * 1_000)
    const how = howOf(id, agent.attestationType)
    const bound = how === 'by-alias' ? parents.get(id) ?? [] : []
    return {
      id, attestationType: agent.attestationType, expiresAt, how,
      place: agent.banned ? 'banned' : here.has(id) ? 'here' : expiresAt > at ? 'there' : 'gone',
      obstacles: [
        ...how === undefined ? [`its node attests by ${agent.attestationType}, which our agents do not: it would get another ID`] : [],
        ...bound.map(({ id: entry }) => `entry ${entry} is below the ID of its pod, and our agent's pod has another`),
        ...below(agent).flatMap(entry => {
          const why = unservable(entry)
          return why === undefined ? [] : [`entry ${entry.id} (${spiffeIdText(entry.spiffeId)}): ${why}`]
        })
      ]
    }
  })
}

/** A server may call agents in Kubernetes by their pods: then each pod's agent is another one, and selectors find its aliases. */
function howOf (id: string, attestationType: string): AgentMove['how'] {
  if (attestationType === 'k8s_psat' && /\/spire\/agent\/k8s_psat\/[^/]+\/pod\//.test(id)) return 'by-alias'
  if (attestsAlike.has(attestationType)) return 'attests-alike'
  return attestationType === 'join_token' ? 'same-token' : undefined
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
