import { openUnixChannel } from '../../src/rpc/channel.ts'
import { firstOf } from '../../src/runtime/first-of.ts'
import { debugService } from '../../src/wire/generated/agent-debug.ts'
import { loggerService } from '../../src/wire/generated/agent-logger.ts'
import { delegatedIdentityService } from '../../src/wire/generated/delegated-identity.ts'
import { agentService } from '../../src/wire/generated/server-agent.ts'
import { bundleService } from '../../src/wire/generated/server-bundle.ts'
import { entryService } from '../../src/wire/generated/server-entry.ts'
import { localAuthorityService } from '../../src/wire/generated/server-local-authority.ts'
import { svidService } from '../../src/wire/generated/server-svid.ts'
import { secretDiscoveryService } from '../../src/wire/generated/envoy-sds.ts'
import { workloadService } from '../../src/wire/generated/workload.ts'
import { securityHeader } from './agent.ts'
import { eventually } from './eventually.ts'

export interface TypicalCallsOptions {
  readonly trustDomain: string
  /** The server's. */
  readonly adminSocket: string
  /** The agent's, of the Workload API. */
  readonly socket: string
  /** Its admin socket. */
  readonly agentAdminSocket: string
  /** Its SPIFFE ID. */
  readonly agentId: string
}

/** What operators and workloads ask of a server and an agent, ours or SPIRE's, every day. */
export async function makeTypicalCalls (
  { trustDomain, adminSocket, socket, agentAdminSocket, agentId }: TypicalCallsOptions
): Promise<void> {
  await using admin = openUnixChannel(adminSocket)
  await using agent = openUnixChannel(socket)
  await using agentAdmin = openUnixChannel(agentAdminSocket)
  const [entries, agents] = [admin.client(entryService), admin.client(agentService)]
  const path = (id: string) => ({ trustDomain, path: id.slice(`spiffe://${trustDomain}`.length) })
  const entry = {
    parentId: path(agentId), spiffeId: { trustDomain, path: '/workload' },
    selectors: [{ type: 'unix', value: `uid:${process.getuid?.()}` }]
  }
  const other = { ...entry, spiffeId: { trustDomain, path: '/other' } }
  const { results: [created] } = await entries.batchCreateEntry({ entries: [entry, other] })
  const id = created?.entry?.id ?? ''
  await entries.batchUpdateEntry({ entries: [{ id, hint: 'told' }], inputMask: { hint: true } })
  await entries.getEntry({ id })
  await entries.listEntries({ pageSize: 1 })
  await entries.countEntries({})
  await agents.listAgents({})
  await agents.countAgents({})
  await agents.getAgent({ id: path(agentId) })
  await agents.createJoinToken({ ttl: 600 })
  const bundles = admin.client(bundleService)
  await bundles.countBundles({})
  await bundles.listFederatedBundles({})
  await bundles.getBundle({})
  await admin.client(svidService).mintJWTSVID({ id: { trustDomain, path: '/minted' }, audience: ['somebody'] })
  const authorities = admin.client(localAuthorityService)
  const { preparedAuthority } = await authorities.prepareX509Authority({})
  await authorities.activateX509Authority({ authorityId: preparedAuthority?.authorityId ?? '' })
  const workload = agent.client(workloadService)
  await eventually('an X509-SVID', async () => {
    const answer = await firstOf(workload.fetchX509SVID({}, securityHeader)).catch(() => undefined)
    return (answer?.svids.length ?? 0) > 0
  })
  await firstOf(workload.fetchX509Bundles({}, securityHeader))
  await workload.fetchJWTSVID({ audience: ['somebody'] }, securityHeader)
  await firstOf(workload.fetchJWTBundles({}, securityHeader))
  const typeUrl = 'type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret'
  await agent.client(secretDiscoveryService).fetchSecrets({ node: { id: 'envoy' }, typeUrl, resourceNames: ['ROOTCA'] })
  await agentAdmin.client(debugService).getInfo({})
  await agentAdmin.client(loggerService).getLogger({})
  // Refused: this process is nobody's delegate.
  await firstOf(agentAdmin.client(delegatedIdentityService).subscribeToX509Bundles({})).catch(() => undefined)
  await entries.batchDeleteEntry({ ids: [id] })
}

export interface ExposedMetric {
  readonly kind: string
  /** Sorted; without a summary's `quantile`. */
  readonly labels: readonly string[]
}

/** What is exposed under names that begin so, by name without that; only what has a value. */
export async function exposedMetrics (port: number, prefix: string): Promise<ReadonlyMap<string, ExposedMetric>> {
  const text = await (await fetch(`http://127.0.0.1:${port}/metrics`)).text()
  const kinds = new Map([...text.matchAll(/^# TYPE (\S+) (\S+)$/gm)].map(([, name = '', kind = '']) => [name, kind]))
  const found = new Map<string, ExposedMetric>()
  for (const [, sample = '', pairs = ''] of text.matchAll(/^(\w+)(?:\{(.*)\})? \S+$/gm)) {
    const name = kinds.has(sample) ? sample : sample.replace(/_(sum|count)$/, '')
    const labels = [...pairs.matchAll(/(\w+)="/g)].map(([, label = '']) => label).filter(label => label !== 'quantile').toSorted()
    if (name.startsWith(prefix)) found.set(name.slice(prefix.length), { kind: kinds.get(name) ?? '', labels })
  }
  return found
}
