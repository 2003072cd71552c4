import { systemClock } from '../../runtime/clock.ts'
import { CallerClient } from './caller-client.ts'
import { ids } from './demo-ids.ts'
import { shortSerial, type CallFacts } from './format-facts.ts'
import type { DemoNetwork } from './network.ts'
import type { Steps } from './steps.ts'
import type { RunningEnvoy, RunningServer, Topology } from './topology.ts'
import { until } from './until.ts'

const rotationTimeoutMs = 60_000
/** The loop goes on for a while under the new certificates. */
const afterRotationMs = 1_000

/** Two nodes whose workloads reach each other through their Envoys. */
export interface Mesh {
  readonly clientEnvoy: RunningEnvoy
  readonly serverEnvoy: RunningEnvoy
  readonly web: CallerClient
  readonly batch: CallerClient
  /** `host:port` of the plain-HTTP listener of `web`. */
  readonly webAddress: string
}

export interface MeshOptions {
  readonly topology: Topology
  readonly nodes: DemoNetwork['nodes']
  readonly servers: readonly [RunningServer, ...RunningServer[]]
  readonly envoyVersion: string
  readonly steps: Steps
}

/** From running servers to Envoys that have their secrets. */
export async function raiseMesh ({ topology, nodes: [one, two], servers, envoyVersion, steps }: MeshOptions): Promise<Mesh> {
  await steps.run('registering web and batch on node-1, backend on node-2', () => topology.register(servers[0], one, two))
  const known = servers.length === 1 ? 'the server by its bundle' : 'the servers by their bundle'
  await steps.run(`starting an agent on each node; they join by token and know ${known}`, () =>
    Promise.all([topology.startAgent(one, servers), topology.startAgent(two, servers)]))

  const place = async (host: string, port: number, node = one) => ({ host, port: await node.port(host, port) })
  const mtls = await place(two.address, 15443, two)
  const app = await place(two.loopback, 8080, two)
  const web = await place(one.loopback, 15001)
  const batch = await place(one.loopback, 15002)
  await steps.run('starting the workloads, which speak plain HTTP and know nothing of certificates', () => topology.startBackend(two, app))
  const callers = { web: topology.startCaller('web', one, web), batch: topology.startCaller('batch', one, batch) }
  const clientPlaces = { listeners: { web, batch }, clusters: { 'backend-as-web': mtls, 'backend-as-batch': mtls } }
  const serverPlaces = { listeners: { mtls }, clusters: { backend: app } }
  const [clientEnvoy, serverEnvoy] = await steps.run(`starting an Envoy ${envoyVersion} on each node; identities come by SDS`, () =>
    Promise.all([
      topology.startEnvoy(one, 'client-node.yaml', clientPlaces),
      topology.startEnvoy(two, 'server-node.yaml', serverPlaces)
    ]))
  return {
    clientEnvoy,
    serverEnvoy,
    web: new CallerClient(callers.web),
    batch: new CallerClient(callers.batch),
    webAddress: `${web.host}:${web.port}`
  }
}

/** @returns the allowed call and the refused one, both as they must be */
export async function callBoth ({ clientEnvoy, serverEnvoy, ...callers }: Mesh, signal: AbortSignal): Promise<[CallFacts, CallFacts]> {
  const factsOf = async (caller: 'web' | 'batch', wanted: number): Promise<CallFacts> => {
    const answer = await callers[caller].call()
    if (answer.status !== wanted) throw new Error(`${caller} must be answered ${wanted} and was answered ${answer.status}: ${answer.body}`)
    const [near, far] = await Promise.all([clientEnvoy.log.find(answer.id, signal), serverEnvoy.log.find(answer.id, signal)])
    const seen = `the peers saw ${far.peerId} call ${near.peerId}`
    if (far.peerId !== ids[caller] || near.peerId !== ids.backend) throw new Error(`${seen} instead of ${ids[caller]} and ${ids.backend}`)
    return { caller, answer, near, far }
  }
  return [await factsOf('web', 200), await factsOf('batch', 403)]
}

/** Requests without end until both sides have renewed. @param meanwhile what shall not be noticed */
export async function showRotation (
  { clientEnvoy, serverEnvoy, web }: Mesh, steps: Steps, signal: AbortSignal, meanwhile: () => Promise<void> = async () => {}
): Promise<void> {
  const serials = () => [serverEnvoy.log.serialsOf(ids.web), clientEnvoy.log.serialsOf(ids.backend)] as const
  const [webBefore, backendBefore] = serials().map(seen => seen.length)
  const rotated = () => {
    const [ofWeb, ofBackend] = serials()
    return ofWeb.length > (webBefore ?? 0) && ofBackend.length > (backendBefore ?? 0) ? true : undefined
  }
  web.startLoop()
  await meanwhile()
  await until('both sides to be seen under new certificates', rotated, rotationTimeoutMs, signal)
  await systemClock.sleep(afterRotationMs, signal)
  const { requests, failures, firstFailure } = await web.stopLoop()
  const [ofWeb, ofBackend] = serials()
  const change = (id: string, seen: readonly string[], before = 0) =>
    steps.say(`  ${id}: serial ${shortSerial(seen[before - 1] ?? '-')} -> ${shortSerial(seen.at(-1) ?? '-')}`)
  change(ids.web, ofWeb, webBefore)
  change(ids.backend, ofBackend, backendBefore)
  steps.say(`  ${requests} requests meanwhile, ${failures} failed`)
  if (failures > 0) throw new Error(`${failures} of ${requests} requests failed during the rotation, the first with: ${firstFailure}`)
}
