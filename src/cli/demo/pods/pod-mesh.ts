import { join } from 'node:path'
import type { Clock } from '../../../runtime/clock.ts'
import type { ServiceInit } from '../../../wire/generated/assay-types.ts'
import { DemoOperator, type Registration } from '../demo-operator.ts'
import { trustDomain } from '../demo-ids.ts'
import type { DemoNode } from '../network.ts'
import type { Steps } from '../steps.ts'
import { nodeId, type RunningServer, type Topology } from '../topology.ts'
import type { Workspace } from '../workspace.ts'
import { CallWatch, type CalledService } from './call-watch.ts'
import type { PodClient } from './pod-client.ts'
import type { PodNetwork } from './pod-network.ts'
import { RefusalLog } from './refusal-log.ts'

export interface PodMeshDeps {
  readonly topology: Topology
  readonly workspace: Workspace
  readonly nodes: readonly [DemoNode, DemoNode]
  readonly network: PodNetwork
  /** Path of the binary. */
  readonly envoy: string
  readonly steps: Steps
  readonly clock: Clock
  readonly signal: AbortSignal
}

export interface PodMesh {
  readonly server: RunningServer
  readonly operator: DemoOperator
  readonly pods: Readonly<Record<'web' | 'batch' | 'api' | 'db', PodClient>>
  /** Entries' IDs by pod. */
  readonly entries: Readonly<Record<string, string>>
  readonly services: Readonly<Record<'api' | 'db', ServiceInit>>
  readonly calls: CallWatch
  /** Of the nodes' Envoys. */
  readonly adminSockets: readonly string[]
  readonly xdsSockets: readonly string[]
}

const workloadPort = 8080
const servicePort = 80
/** Short, so that handshakes are seen. */
const connectionLife = '3s'

export function idOf (name: string): string { return `spiffe://${trustDomain}/${name}` }

/** An entry: whoever is in the pod of this name on this node is `id`. */
export function registrationOf (id: string, pod: string, node: DemoNode): Registration {
  return { id: idOf(id), node: nodeId(node), selectors: [{ type: 'netns', value: `name:${pod}` }], ttlSeconds: 600 }
}

export async function startWorkload (name: string, node: DemoNode, { network, topology }: PodMeshDeps): Promise<PodClient> {
  return await topology.startPod(await network.add(name, node), workloadPort)
}

/** Server, agents with their Envoys, entries, services and workloads; the calls have not begun. */
export async function raisePodMesh (deps: PodMeshDeps): Promise<PodMesh> {
  const { topology, workspace, nodes: [one, two], steps, clock } = deps
  const server = await steps.run('starting the server (SQLite) on node-1', () => topology.startServer(one))
  const operator = new DemoOperator(server.adminSocket)
  const { entries, services } = await steps.run('registering four identities by pod, and who may call the services api and db', () =>
    register(operator, deps))
  const xdsSockets = [one, two].map(node => join(workspace.folder, node.name, 'xds.sock'))
  const accessLogs = [one, two].map(node => join(workspace.logs, `${node.name}-access.log`))
  const agents = steps.run('starting an agent on each node; it runs the node\'s Envoy and redirects what pods send and get', () =>
    Promise.all([one, two].map((node, index) => topology.startAgent(node, [server], {
      mesh: {
        socket_path: xdsSockets[index], netns_dir: deps.network.folderOf(node), access_log: accessLogs[index],
        connection_life: connectionLife, run_envoy: true,
        // Nothing stays, however the demo ends.
        envoy: { path: deps.envoy, concurrency: 1, outlives_agent: false }
      }
    }))))
  const workloads = steps.run('starting web and batch in pods of node-1, api and db in pods of node-2: plain HTTP and nothing else', () =>
    Promise.all([
      startWorkload('web', one, deps), startWorkload('batch', one, deps), startWorkload('api', two, deps), startWorkload('db', two, deps)
    ]))
  const [[web, batch, api, db]] = await Promise.all([workloads, agents])
  const calls = new CallWatch([called(services.api), called(services.db)], {
    refusals: new RefusalLog(accessLogs), clock
  })
  return {
    server, operator, entries, services, calls, xdsSockets,
    pods: { web, batch, api, db },
    adminSockets: [one, two].map(node => join(topology.agentFolder(node), 'envoy', 'admin.sock'))
  }
}

async function register (operator: DemoOperator, { topology, nodes }: PodMeshDeps): Promise<Pick<PodMesh, 'entries' | 'services'>> {
  await topology.prepareAgents(operator, nodes)
  const [one, two] = nodes
  const places = [['web', one], ['batch', one], ['api', two], ['db', two]] as const
  const ids = await operator.register(places.map(([name, node]) => registrationOf(name, name, node)))
  const service = (name: string, address: string, callers: readonly string[]): ServiceInit => ({
    name, address, spiffeIds: [idOf(name)], inbound: 'strict',
    ports: [{ port: servicePort, targetPort: workloadPort, protocol: 'http' }], callers: { patterns: callers.map(idOf) }
  })
  const services = { api: service('api', '10.99.0.1', ['web']), db: service('db', '10.99.0.2', ['api', 'batch']) }
  const [api, db] = await operator.createServices([services.api, services.db])
  return {
    entries: Object.fromEntries(places.map(([name], index) => [name, ids[index] ?? ''])),
    services: { api: { ...services.api, id: api }, db: { ...services.db, id: db } }
  }
}

function called ({ name = '', address = '' }: ServiceInit): CalledService {
  return { name, address, port: servicePort, id: idOf(name) }
}
