import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { RunningServer } from '../fakes/processes.ts'
import { controllerManager } from './build-controller-manager.ts'
import type { RealCluster } from './real-cluster.ts'

export interface ControllerManagerOptions {
  readonly cluster: RealCluster
  readonly server: Pick<RunningServer, 'adminSocket'>
  /** Of the IDs of the entries that are its own; without one every entry is. */
  readonly entryIDPrefix?: string
}

/** What its own manifests grant it. */
export const controllerManagerRules = [
  { apiGroups: [''], resources: ['endpoints', 'namespaces', 'nodes', 'pods'], verbs: ['get', 'list', 'watch'] },
  {
    apiGroups: ['spire.spiffe.io'],
    resources: ['clusterfederatedtrustdomains', 'clusterspiffeids', 'clusterstaticentries'],
    verbs: ['create', 'delete', 'get', 'list', 'patch', 'update', 'watch']
  },
  {
    apiGroups: ['spire.spiffe.io'],
    resources: ['clusterfederatedtrustdomains/status', 'clusterspiffeids/status', 'clusterstaticentries/status'],
    verbs: ['get', 'patch', 'update']
  }
]

/** The real spire-controller-manager, with the rights of the cluster's kubeconfig; without webhooks, which need a pod to run in. */
export class ControllerManager implements AsyncDisposable {
  readonly #child: ChildProcess
  readonly #folder: string
  #log = ''

  private constructor (child: ChildProcess, folder: string) {
    this.#child = child
    this.#folder = folder
    for (const stream of [child.stdout, child.stderr]) stream?.setEncoding('utf8').on('data', (text: string) => { this.#log += text })
  }

  static async start ({ cluster, server, entryIDPrefix }: ControllerManagerOptions): Promise<ControllerManager> {
    const program = await controllerManager()
    const folder = await mkdtemp(join(tmpdir(), 'assay-manager-'))
    const config = join(folder, 'config.yaml')
    await writeFile(config, JSON.stringify({
      apiVersion: 'spire.spiffe.io/v1alpha1',
      kind: 'ControllerManagerConfig',
      clusterName: 'real',
      clusterDomain: 'cluster.local',
      trustDomain: 'example.org',
      ignoreNamespaces: ['^kube-'],
      // Nanoseconds: it reads no text here.
      gcInterval: 1_000_000_000,
      spireServerSocketPath: server.adminSocket,
      metrics: { bindAddress: '0' },
      health: { healthProbeBindAddress: '0' },
      leaderElection: { leaderElect: false },
      ...entryIDPrefix === undefined ? {} : { entryIDPrefix }
    }))
    const environment = { PATH: process.env['PATH'] ?? '', HOME: folder, KUBECONFIG: cluster.kubeconfig, ENABLE_WEBHOOKS: 'false' }
    return new ControllerManager(spawn(program, ['-config', config], { env: environment, stdio: ['ignore', 'pipe', 'pipe'] }), folder)
  }

  get running (): boolean { return this.#child.exitCode === null && this.#child.signalCode === null }
  get log (): string { return this.#log }

  /** What it changed on the server, or could not: the messages of its log. */
  changes (): readonly string[] {
    const message = /\t((?:Created|Updated|Deleted|Failed to (?:create|update|delete)) (?:entry|entries|federation relationships?))\t/g
    return [...this.#log.matchAll(message)].map(([, text = '']) => text)
  }

  async [Symbol.asyncDispose] (): Promise<void> {
    if (this.running) {
      this.#child.kill('SIGKILL')
      await once(this.#child, 'exit')
    }
    await rm(this.#folder, { recursive: true, force: true })
  }
}
