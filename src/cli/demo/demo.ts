import { systemClock } from '../../runtime/clock.ts'
import type { Terminal } from '../terminal.ts'
import { CallerClient } from './caller-client.ts'
import { ids } from './demo-ids.ts'
import { findEnvoy } from './find-envoy.ts'
import { formatFacts, shortSerial, type CallFacts } from './format-facts.ts'
import { openNetwork, type DemoNetwork } from './network.ts'
import { StepFailed, Steps } from './steps.ts'
import { Topology, type RunningEnvoy } from './topology.ts'
import { until } from './until.ts'
import { openWorkspace, type Workspace } from './workspace.ts'

export interface DemoOptions {
  /** End after the last step instead of staying up. */
  readonly once: boolean
  /** Leave the logs behind; after a failure they stay anyway. */
  readonly keepLogs: boolean
  /** False: loopback addresses even where namespaces could be made. */
  readonly namespaces: boolean
}

const rotationTimeoutMs = 30_000
/** The loop goes on for a while under the new certificates. */
const afterRotationMs = 1_000

/** @returns the exit code: 1 when a step failed, which is told on standard error */
export async function runDemo (options: DemoOptions, terminal: Terminal): Promise<0 | 1> {
  const stop = new AbortController()
  const signal = AbortSignal.any([terminal.signal, stop.signal])
  const hangUp = () => stop.abort(new Error('stopped by SIGHUP'))
  process.on('SIGHUP', hangUp)
  const steps = new Steps(systemClock, terminal.out)
  const workspace = await openWorkspace()
  workspace.keepLogs = options.keepLogs
  try {
    await play(options, { steps, workspace, terminal, signal })
    return 0
  } catch (error) {
    if (signal.aborted) throw signal.reason
    workspace.keepLogs = true
    const step = error instanceof StepFailed ? error.step : 'the demo'
    terminal.err(`failed: ${step}: ${(error as Error).message}\n  logs: ${workspace.logs}\n`)
    return 1
  } finally {
    await workspace[Symbol.asyncDispose]()
    process.off('SIGHUP', hangUp)
    if (workspace.keepLogs) terminal.out(`logs are kept in ${workspace.logs}\n`)
  }
}

interface Stage {
  readonly steps: Steps
  readonly workspace: Workspace
  readonly terminal: Terminal
  readonly signal: AbortSignal
}

async function play ({ once, namespaces }: DemoOptions, { steps, workspace, terminal, signal }: Stage): Promise<void> {
  await using scope = new AsyncDisposableStack()
  const envoy = await steps.run('looking for Envoy', () => findEnvoy(terminal.environment['PATH']))
  const network = scope.use(await steps.run('making two nodes', () => openNetwork({ namespaces, folder: workspace.logs })))
  steps.say(`the nodes are ${network.description}`)
  const topology = scope.use(new Topology({ workspace, network, envoy: envoy.file, signal }))
  const lastResort = () => {
    for (const process of topology.processes) process.kill()
    workspace.removeNow()
  }
  process.on('exit', lastResort)
  scope.defer(() => { process.off('exit', lastResort) })

  const stage = await raise(topology, network, envoy.version, steps)
  const facts = await steps.run('calling the backend as web and as batch', () => callBoth(stage, signal))
  terminal.out(`\n${formatFacts(...facts)}\n`)
  await steps.run('rotating under a loop of requests', () => showRotation(stage, steps, signal))
  if (once) {
    steps.say('done; stopping everything')
    return
  }
  steps.say('everything stays up until Ctrl-C')
  terminal.out(`\n${howToTry(topology, network, stage)}\n`)
  await untilStopped(topology, signal)
  steps.say('stopping everything')
}

interface RaisedStage {
  readonly clientEnvoy: RunningEnvoy
  readonly serverEnvoy: RunningEnvoy
  readonly web: CallerClient
  readonly batch: CallerClient
  /** `host:port` of the plain-HTTP listener of `web`. */
  readonly webAddress: string
}

async function raise (topology: Topology, { nodes: [one, two] }: DemoNetwork, envoyVersion: string, steps: Steps): Promise<RaisedStage> {
  const server = await steps.run('starting the server (SQLite) on node-1', () => topology.startServer(one))
  await steps.run('registering web and batch on node-1, backend on node-2', () => topology.register(one, two))
  await steps.run('starting an agent on each node; they join by token and know the server by its bundle', () =>
    Promise.all([topology.startAgent(one, server), topology.startAgent(two, server)]))

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
async function callBoth ({ clientEnvoy, serverEnvoy, ...callers }: RaisedStage, signal: AbortSignal): Promise<[CallFacts, CallFacts]> {
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

async function showRotation ({ clientEnvoy, serverEnvoy, web }: RaisedStage, steps: Steps, signal: AbortSignal): Promise<void> {
  const serials = () => [serverEnvoy.log.serialsOf(ids.web), clientEnvoy.log.serialsOf(ids.backend)] as const
  const [webBefore, backendBefore] = serials().map(seen => seen.length)
  const rotated = () => {
    const [ofWeb, ofBackend] = serials()
    return ofWeb.length > (webBefore ?? 0) && ofBackend.length > (backendBefore ?? 0) ? true : undefined
  }
  web.startLoop()
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

function howToTry (topology: Topology, { nodes: [one] }: DemoNetwork, { webAddress }: RaisedStage): string {
  const prefix = one.enter.length === 0 ? '' : `${one.enter.join(' ')} `
  return [
    `  call the backend as web:  ${prefix}curl http://${webAddress}/`,
    `  see the entries:          bin/assay entry show -socketPath ${topology.adminSocket}`,
    `  see the agents:           bin/assay agent list -socketPath ${topology.adminSocket}`
  ].join('\n')
}

/** Throws when one of the processes ends first. */
async function untilStopped (topology: Topology, signal: AbortSignal): Promise<void> {
  const stopped = Promise.withResolvers<void>()
  signal.addEventListener('abort', () => stopped.resolve(), { once: true })
  if (signal.aborted) stopped.resolve()
  await Promise.race([stopped.promise, ...topology.processes.map(process => process.ended())])
}
