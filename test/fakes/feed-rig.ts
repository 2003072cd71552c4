import type { Agent } from '../../src/spiffe/agent.ts'
import type { Bundle } from '../../src/spiffe/bundle.ts'
import { parseTrustDomain, type TrustDomain } from '../../src/spiffe/trust-domain.ts'
import { makeAgent } from './agents.ts'
import { idOf, testDomain } from './entries.ts'
import { ModelDatabase, type ModelChange } from './model-database.ts'
import { openPushReplica, type PushReplica } from './push.ts'

export const own = parseTrustDomain(testDomain)
export const [x, y] = ['x.test', 'y.test'].map(parseTrustDomain) as [TrustDomain, TrustDomain]
export const nodes = ['one', 'two', 'three'].map(name => idOf(`/spire/agent/join_token/${name}`))
export const [one, two] = nodes as [Agent['id'], Agent['id']]

export function bundle (trustDomain: TrustDomain, sequenceNumber: number): Bundle {
  return { trustDomain, sequenceNumber: BigInt(sequenceNumber), x509Authorities: [], jwtAuthorities: [] }
}

interface Rig {
  readonly database: ModelDatabase
  readonly replicas: readonly PushReplica[]
  readonly commit: (change: ModelChange) => Promise<void>
}

export async function openRig (count: number): Promise<Rig> {
  const database = new ModelDatabase()
  database.commit({ agents: new Map(nodes.map(id => [id, makeAgent(id)])), bundles: new Map([own, x, y].map(d => [d, bundle(d, 1)])) })
  const replicas = await Promise.all(Array.from({ length: count }, () => openPushReplica(database.storeFor(), own)))
  return {
    database,
    replicas,
    commit: async change => {
      database.commit(change)
      for (const { replica } of replicas) await replica.catchUp()
    }
  }
}
