import { z } from 'zod'
import { durationSeconds, hostPort, parsedBy, text } from '../runtime/config-schema.ts'
import { defaultMeshSettings, type MeshSettings } from '../mesh/mesh-state.ts'
import { parseSelector, type Selector } from '../spiffe/selector.ts'
import { type PodMeshConfig, podMeshConfigOf, podMeshSchema } from './pod-mesh-config.ts'
import { type DecisionConfig, decisionConfigOf, decisionSchema } from './decision-config.ts'

/** The node's Envoy and the workloads it serves. */
export interface MeshConfig {
  readonly xdsSocketPath: string
  /** Who may be the proxy besides the one that the agent runs: a caller to whom all these apply. Empty: nobody. */
  readonly proxySelectors: readonly Selector[]
  /** Named network namespaces here are workloads; `undefined`: none are. */
  readonly netnsFolder: string | undefined
  /** Whether the agent writes the rules by which workloads' connections arrive at the proxy. */
  readonly redirect: boolean
  /** Whether processes of the host itself are workloads too. */
  readonly hostProcesses: boolean
  readonly settings: Omit<MeshSettings, 'trustDomain' | 'connectionName' | 'countsTraffic'>
  readonly decisions: DecisionConfig
  /** Whether labels decide which pods belong to the mesh. */
  readonly kubernetes: PodMeshConfig | undefined
  /** Runs the proxy itself; `undefined`: somebody else does. */
  readonly envoy: { readonly command: string, readonly concurrency: number | undefined, readonly outlivesAgent: boolean } | undefined
}

const ownPort = z.int().min(1, 'must be 1 to 65535').max(65_535, 'must be 1 to 65535')

export const meshSchema = z.strictObject({
  socket_path: text.default('/tmp/assay-agent/private/xds.sock'),
  proxy_selectors: z.array(parsedBy(parseSelector)).default([]),
  host_processes: z.boolean().default(false),
  netns_dir: z.string().default('/var/run/netns'),
  outbound_port: ownPort.default(defaultMeshSettings.outboundPort),
  inbound_port: ownPort.default(defaultMeshSettings.inboundPort),
  unknown_destinations: z.enum(['passthrough', 'refuse']).default(defaultMeshSettings.unknownDestinations),
  redirect: z.boolean().default(true),
  connection_life: durationSeconds(1_000).default(defaultMeshSettings.connectionLifeSeconds),
  access_log: text.optional(),
  tracing: z.strictObject({
    address: hostPort.refine(({ port }) => port > 0, 'must have a port from 1 to 65535'),
    sampling: z.number().min(0, 'must be 0 to 100').max(100, 'must be 0 to 100').default(1)
  }).optional(),
  decision_log: decisionSchema.prefault({}),
  kubernetes: podMeshSchema.optional(),
  run_envoy: z.boolean().default(false),
  envoy: z.strictObject({
    path: text.default('envoy'),
    concurrency: z.int().min(1).max(1024).optional(),
    outlives_agent: z.boolean().default(true)
  }).prefault({})
})

export function meshConfigOf (mesh: z.output<typeof meshSchema>): MeshConfig {
  const decisions = decisionConfigOf(mesh.decision_log)
  return {
    decisions,
    xdsSocketPath: mesh.socket_path,
    proxySelectors: mesh.proxy_selectors,
    netnsFolder: mesh.netns_dir === '' ? undefined : mesh.netns_dir,
    redirect: mesh.redirect,
    hostProcesses: mesh.host_processes,
    kubernetes: mesh.kubernetes && podMeshConfigOf(mesh.kubernetes),
    settings: {
      outboundPort: mesh.outbound_port,
      inboundPort: mesh.inbound_port,
      unknownDestinations: mesh.unknown_destinations,
      mark: defaultMeshSettings.mark,
      connectionLifeSeconds: mesh.connection_life,
      accessLogPath: mesh.access_log,
      authorizationSocketPath: mesh.socket_path.replace(/(?:\.sock)?$/, '-authz.sock'),
      reports: decisions.proxy === 'none' ? undefined : { socketPath: mesh.socket_path, decisions: decisions.proxy },
      tracing: mesh.tracing && { ...mesh.tracing.address, samplingPercent: mesh.tracing.sampling }
    },
    envoy: !mesh.run_envoy ? undefined : {
      command: mesh.envoy.path, concurrency: mesh.envoy.concurrency, outlivesAgent: mesh.envoy.outlives_agent
    }
  }
}
