import { untilAborted } from '../../runtime/until-aborted.ts'
import { systemClock } from '../../runtime/clock.ts'
import type { Terminal } from '../terminal.ts'
import { findEnvoy } from './find-envoy.ts'
import { openNetwork } from './network.ts'
import { openPods } from './pods/pod-network.ts'
import { showPods } from './pods/show-pods.ts'
import { showCallers } from './show-callers.ts'
import { StepFailed, Steps } from './steps.ts'
import { Topology } from './topology.ts'
import { openWorkspace, type Workspace } from './workspace.ts'

export interface DemoOptions {
  /** End after the last step instead of staying up. */
  readonly once: boolean
  /** Leave the logs behind; after a failure they stay anyway. */
  readonly keepLogs: boolean
  /** False: loopback addresses even where namespaces could be made. */
  readonly namespaces: boolean
}

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
  const place = await steps.run('making a bridge for pods on each', () => openPods(network, workspace, signal))
  if ('pods' in place) scope.use(place.pods)
  const topology = scope.use(new Topology({ workspace, network, envoy: envoy.file, signal }))
  const lastResort = () => {
    for (const process of topology.processes) process.kill()
    workspace.removeNow()
  }
  process.on('exit', lastResort)
  scope.defer(() => { process.off('exit', lastResort) })

  const toTry = 'pods' in place
    ? await showPods({
      topology, workspace, steps, signal, nodes: network.nodes, network: place.pods, envoy: envoy.file, clock: systemClock
    }, terminal, scope)
    : await showCallers({ topology, network, steps, terminal, signal, envoyVersion: envoy.version, missing: place.missing })
  if (once) {
    steps.say('done; stopping everything')
    return
  }
  steps.say('everything stays up until Ctrl-C')
  terminal.out(`\n${toTry}\n`)
  await untilStopped(topology, signal)
  steps.say('stopping everything')
}

/** Throws when one of the processes ends first. */
async function untilStopped (topology: Topology, signal: AbortSignal): Promise<void> {
  await Promise.race([untilAborted(signal), topology.anyEnded()])
}
