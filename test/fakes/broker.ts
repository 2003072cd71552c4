import { readlinkSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Test } from 'tap'
import { z } from 'zod'
import { agentCatalog } from '../../src/agent/agent-catalog.ts'
import type { BrokerConfig } from '../../src/agent/broker-config.ts'
import { pluginSchemas } from '../../src/plugins/catalog.ts'
import { openTlsChannel } from '../../src/rpc/channel.ts'
import type { TlsIdentity } from '../../src/rpc/tls-identity.ts'
import { type Logger, silentLogger } from '../../src/runtime/logger.ts'
import { SpiffeError } from '../../src/spiffe/errors.ts'
import { parseSpiffeId } from '../../src/spiffe/spiffe-id.ts'
import { parseTrustDomain } from '../../src/spiffe/trust-domain.ts'
import { encodeMessage } from '../../src/wire/encode-message.ts'
import {
  brokerService, KubernetesObjectReference, type KubernetesObjectReferenceInit, type SubscribeToX509SVIDResponse, WorkloadPIDReference,
  type WorkloadReferenceInit
} from '../../src/wire/generated/broker.ts'
import { splitCertificates } from '../../src/x509/certificate.ts'
import { verifyX509Svid } from '../../src/x509/verify-svid.ts'
import { startTestAgent } from './agent.ts'
import { startTestServer } from './server.ts'
import { Administrator } from '../interop/administrator.ts'
import { Workload } from '../faults/workload.ts'

export const brokerId = 'spiffe://example.org/broker'
export const pidType = 'type.googleapis.com/spiffe.broker.WorkloadPIDReference'
export const objectType = 'type.googleapis.com/spiffe.broker.KubernetesObjectReference'
export const header = { metadata: { 'broker.spiffe.io': 'true' } }
export const any = new Map([['*', { allowOverTcp: true }]])

const plugins = z.strictObject(pluginSchemas(agentCatalog))
  // Without the digest: to hash this program takes a busy machine longer than a caller is given.
  .parse({ WorkloadAttestor: { unix: { plugin_data: { discover_workload_path: true, workload_size_limit: -1 } } } })

export const pidReference = (pid: number): WorkloadReferenceInit =>
  ({ reference: { typeUrl: pidType, value: encodeMessage(WorkloadPIDReference, { pid }) } })

export const objectReference = (object: KubernetesObjectReferenceInit): WorkloadReferenceInit =>
  ({ reference: { typeUrl: objectType, value: encodeMessage(KubernetesObjectReference, object) } })

/** A server, an agent with a Broker Endpoint, and the SVID of the broker, which this process got from the Workload API. */
export async function setUp (t: Test, options: Partial<BrokerConfig> = {}, log: Logger = silentLogger) {
  const scope = new AsyncDisposableStack()
  t.teardown(() => scope.disposeAsync())
  const folder = await mkdtemp(join(tmpdir(), 'broker-'))
  scope.defer(() => rm(folder, { recursive: true, force: true }))
  const server = scope.use(await startTestServer())
  const socketPath = join(folder, 'broker.sock')
  const broker = { socketPath, bind: undefined, brokers: new Map([[parseSpiffeId(brokerId), { allowedTypes: any }]]), ...options }
  const agent = scope.use(await startTestAgent(server, { log, config: { broker, plugins } }))
  const admin = scope.use(new Administrator({ adminSocket: server.config.socketPath }))
  const parent = `spiffe://example.org${agent.path}`
  const workload = scope.use(new Workload(agent.config.socketPath))
  const registerHere = async (id: string): Promise<TlsIdentity> => {
    await admin.register(id, parent, { selectors: [{ type: 'unix', value: `path:${readlinkSync('/proc/self/exe')}` }] })
    const { svids } = await workload.granted(id)
    const svid = svids.find(({ spiffeId }) => spiffeId === id)
    return { chain: splitCertificates(svid?.x509Svid ?? new Uint8Array()), privateKey: svid?.x509SvidKey ?? new Uint8Array() }
  }
  const identity = await registerHere(brokerId)
  const { x509Authorities } = await admin.bundles.getBundle({})
  const bundle = {
    trustDomain: parseTrustDomain('example.org'), jwtAuthorities: [],
    x509Authorities: x509Authorities.map(({ asn1 }) => ({ certificate: asn1, tainted: false }))
  }
  /** What the broker must do: the server is the agent, and nobody else (BRE-08). */
  const verifyServer = (chain: readonly Uint8Array[]) => {
    const { id } = verifyX509Svid(chain, { bundleOf: () => bundle, at: new Date() })
    if (id !== parent) throw new SpiffeError('peer_unauthenticated', `${id} is not the agent`)
  }
  const clientAs = (identity: TlsIdentity | undefined, address = `unix:${socketPath}`) =>
    scope.use(openTlsChannel({ address, identity: () => identity, verifyServer, log: silentLogger }))
  const channel = clientAs(identity)
  const client = channel.client(brokerService)
  return { admin, agent, parent, socketPath, identity, registerHere, clientAs, channel, client, bundle }
}

export const idsOf = ({ svids }: SubscribeToX509SVIDResponse) => svids.map(({ spiffeId }) => spiffeId)
