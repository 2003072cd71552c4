import type { Agent } from '../../src/spiffe/agent.ts'
import { plainEntry, type EntryDraft } from '../../src/spiffe/entry.ts'
import { spiffeIdOf, type SpiffeId } from '../../src/spiffe/spiffe-id.ts'
import { parseTrustDomain } from '../../src/spiffe/trust-domain.ts'

export const trustDomain = parseTrustDomain('example.org')
const cluster = { type: 'k8s_psat', value: 'cluster:production' }
const serverId = spiffeIdOf(trustDomain, '/spire/server')
/** The alias of all nodes. */
export const fleetAlias = 'fleet'
export const fleetId = spiffeIdOf(trustDomain, '/fleet')

export interface Population {
  readonly agents: number
  /** In all, aliases included. */
  readonly entries: number
  /** Below the alias of all nodes. */
  readonly shared: number
}

/** A cluster: each node has an alias of its own beside that of all, and its workloads below its agent's ID or its alias. */
export function agentOf (node: number): Agent {
  return {
    id: agentIdOf(node),
    attestationType: 'k8s_psat',
    serialNumber: (node + 1).toString(16),
    expiresAt: new Date('2100-01-01T00:00:00Z'),
    canReattest: true,
    selectors: [{ type: 'k8s_psat', value: `agent_node_name:node-${node}` }, cluster],
    banned: false,
    agentVersion: ''
  }
}

export function agentIdOf (node: number): SpiffeId { return spiffeIdOf(trustDomain, `/spire/agent/k8s_psat/production/node-${node}`) }

export function nodeAliasOf (node: number): EntryDraft { return draft(`node-${node}`, nodeIdOf(node), serverId, agentOf(node).selectors) }

function nodeIdOf (node: number): SpiffeId { return spiffeIdOf(trustDomain, `/node/${node}`) }

function fleetAliasEntry (): EntryDraft { return draft(fleetAlias, fleetId, serverId, [cluster]) }

/** Runs on every node. */
function sharedEntry (index: number, id = `shared-${index}`): EntryDraft {
  return draft(id, spiffeIdOf(trustDomain, `/ns/system/sa/daemon-${index}`), fleetId, workloadSelectors('system', `daemon-${index}`))
}

export function workloadOf (node: number, index: number): EntryDraft {
  const [namespace, account] = [`team-${(node + index) % 200}`, `service-${node}-${index}`]
  const parent = index % 2 === 0 ? agentIdOf(node) : nodeIdOf(node)
  return draft(`workload-${node}-${index}`, spiffeIdOf(trustDomain, `/ns/${namespace}/sa/${account}`), parent,
    workloadSelectors(namespace, account))
}

/** All entries, in some order. */
export function * entriesOf ({ agents, entries, shared }: Population): Generator<EntryDraft> {
  yield fleetAliasEntry()
  for (let index = 0; index < shared; index++) yield sharedEntry(index)
  for (let node = 0; node < agents; node++) yield nodeAliasOf(node)
  const workloads = entries - 1 - shared - agents
  for (let n = 0; n < workloads; n++) yield workloadOf(n % agents, Math.floor(n / agents))
}

function workloadSelectors (namespace: string, account: string): EntryDraft['selectors'] {
  return [{ type: 'k8s', value: `ns:${namespace}` }, { type: 'k8s', value: `sa:${account}` }]
}

function draft (id: string, spiffeId: SpiffeId, parentId: SpiffeId, selectors: EntryDraft['selectors']): EntryDraft {
  return { ...plainEntry, id, spiffeId, parentId, selectors }
}
