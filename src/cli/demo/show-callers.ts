import type { Terminal } from '../terminal.ts'
import { formatFacts } from './format-facts.ts'
import { callBoth, raiseMesh, showRotation, type Mesh } from './mesh.ts'
import type { DemoNetwork } from './network.ts'
import type { Steps } from './steps.ts'
import type { RunningServer, Topology } from './topology.ts'

export interface ShowCallersDeps {
  readonly topology: Topology
  readonly network: DemoNetwork
  readonly envoyVersion: string
  /** Why there are no pods. */
  readonly missing: string
  readonly steps: Steps
  readonly terminal: Terminal
  readonly signal: AbortSignal
}

/** What can be shown without pods: Envoys that get identities by SDS, an allowed and a refused caller. @returns what to try */
export async function showCallers (deps: ShowCallersDeps): Promise<string> {
  const { topology, network, envoyVersion, missing, steps, terminal, signal } = deps
  steps.say('not shown: pods behind one Envoy per node that takes their plain HTTP by itself, and who may call whom changing as you watch;')
  steps.say(`  ${missing}`)
  const { nodes: [one, two] } = network
  const server = await steps.run('starting the server (SQLite) on node-1', () => topology.startServer(one))
  const mesh = await raiseMesh({ topology, nodes: [one, two], servers: [server], envoyVersion, steps })
  const facts = await steps.run('calling the backend as web and as batch', () => callBoth(mesh, signal))
  terminal.out(`\n${formatFacts(...facts)}\n`)
  await steps.run('rotating under a loop of requests', () => showRotation(mesh, steps, signal))
  return howToTry(network, mesh, server)
}

function howToTry ({ nodes: [one] }: DemoNetwork, { webAddress }: Mesh, { adminSocket }: RunningServer): string {
  const prefix = one.enter.length === 0 ? '' : `${one.enter.join(' ')} `
  return [
    `  call the backend as web:  ${prefix}curl http://${webAddress}/`,
    `  see the entries:          bin/assay entry show -socketPath ${adminSocket}`,
    `  see the agents:           bin/assay agent list -socketPath ${adminSocket}`
  ].join('\n')
}
