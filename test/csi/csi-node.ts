import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { openUnixChannel } from '../../src/rpc/channel.ts'
import { csiIdentityService, csiNodeService } from '../../src/wire/generated/csi.ts'
import { kubeletRegistrationService } from '../../src/wire/generated/kubelet-registration.ts'
import { eventually } from '../fakes/eventually.ts'
import { RunningProcess } from '../fakes/processes.ts'
import { Shell } from '../fakes/shell.ts'

const program = join(import.meta.dirname, '../../src/cli/main.ts')

/** Why nothing can be mounted here; `false` when it can. */
export function noMounts (): string | false {
  if (process.getuid?.() !== 0) return 'needs root to mount'
  try {
    execFileSync('unshare', ['--mount', '--propagation', 'private', '--pid', '--fork', '--', 'mount', '--bind', '/proc', '/proc'])
    return false
  } catch {
    return 'needs unshare and mount, and a kernel that lets root use them'
  }
}

/**
 * A node as a kubelet and a runtime make one, in mount namespaces of its own: the node's, in which the kubelet's folder is shared; the
 * driver's, a container with that folder mounted both ways and with PIDs of its own; one for each pod. All end with their processes.
 */
export class CsiNode implements AsyncDisposable {
  readonly root: string
  /** Of the node's namespace. */
  readonly shell: Shell
  readonly kubeletDir: string
  /** The folder of the agent's socket; not there at first. */
  readonly source: string
  readonly #scope = new AsyncDisposableStack()
  #driver: RunningProcess | undefined

  private constructor (root: string, shell: Shell) {
    this.root = root
    this.shell = shell
    this.kubeletDir = join(root, 'kubelet')
    this.source = join(root, 'workload')
    this.#scope.defer(() => rm(root, { recursive: true, force: true }))
    this.#scope.use(shell)
  }

  static async open (): Promise<CsiNode> {
    const root = await mkdtemp(join(tmpdir(), 'csi-'))
    const node = new CsiNode(root, await Shell.start({ within: ['unshare', '--mount', '--propagation', 'private', '--'] }))
    mkdirSync(join(node.kubeletDir, 'pods'), { recursive: true })
    await node.shell.run(`mount --bind ${node.kubeletDir} ${node.kubeletDir} && mount --make-shared ${node.kubeletDir}`)
    return node
  }

  get csiSocket (): string { return this.csiSocketOf('csi.assay.io') }
  csiSocketOf (driver: string): string { return join(this.kubeletDir, 'plugins', driver, 'csi.sock') }

  /**
   * The driver in its container: what it mounts below the kubelet's folder appears on the node.
   * @param words after `assay`; environment variables before them
   */
  async startDriver (words?: readonly string[], environment: readonly string[] = []): Promise<void> {
    const container = ['unshare', '--mount', '--propagation', 'unchanged', '--pid', '--fork', '--kill-child', '--mount-proc', '--']
    const folders = ['-workloadSocketDir', this.source, '-kubeletDir', this.kubeletDir]
    const called = words ?? ['csi', 'run', ...folders, '-nodeId', 'worker-1', '-logFormat', 'json']
    this.#driver = new RunningProcess([...called], undefined, [...this.#enter(), ...container, 'env', ...environment])
    this.#scope.defer(() => this.killDriver())
    await this.#driver.logged('CSI driver is serving')
  }

  async killDriver (): Promise<void> { await this.#driver?.kill9() }

  get log (): string { return this.#driver?.log ?? '' }

  /** As the kubelet calls, from outside the driver's namespaces. */
  services (driver = 'csi.assay.io') {
    const channel = this.#scope.use(openUnixChannel(this.csiSocketOf(driver)))
    const registration = this.#scope.use(openUnixChannel(join(this.kubeletDir, `plugins_registry/${driver}-reg.sock`)))
    return {
      identity: channel.client(csiIdentityService), node: channel.client(csiNodeService),
      registration: registration.client(kubeletRegistrationService)
    }
  }

  /** The folder that the kubelet makes for a volume. @returns the target in it, which is the driver's to make */
  addVolume (podUid: string): string {
    const volume = join(this.kubeletDir, 'pods', podUid, 'volumes/kubernetes.io~csi/spiffe')
    mkdirSync(volume, { recursive: true })
    return join(volume, 'mount')
  }

  /** The options of what is mounted at a path of the node's, or nothing. */
  async optionsAt (path: string): Promise<string[]> {
    const found = await this.shell.run(`findmnt --noheadings --output VFS-OPTIONS --mountpoint ${path} || true`)
    return found === '' ? [] : found.split('\n').map(line => line.trim())
  }

  /** A pod with a volume at `folder`, as a runtime binds it: mounts of the node made later are not seen in it. */
  async startPod (target: string): Promise<CsiPod> {
    const shell = this.#scope.use(await Shell.start({ within: [...this.#enter(), 'unshare', '--mount', '--propagation', 'private', '--'] }))
    const folder = join(this.root, 'in-pod')
    mkdirSync(folder, { recursive: true })
    await shell.run(`mount --rbind ${target} ${folder} && umount --recursive ${this.kubeletDir}`)
    const pod = new CsiPod(shell, folder)
    this.#scope.use(pod)
    return pod
  }

  async [Symbol.asyncDispose] (): Promise<void> { await this.#scope.disposeAsync() }

  #enter (): string[] { return ['nsenter', `--mount=/proc/${this.shell.pid}/ns/mnt`, '--'] }
}

/** Processes that see the volume in their pod's namespace. */
class CsiPod implements AsyncDisposable {
  readonly shell: Shell
  readonly folder: string
  readonly #children: ChildProcess[] = []

  constructor (shell: Shell, folder: string) {
    this.shell = shell
    this.folder = folder
  }

  /** `assay` in the pod. @returns what it wrote so far, and the end of it */
  assay (...words: string[]): { readonly output: () => string, readonly ended: Promise<number | null> } {
    const child = spawn('nsenter', [`--mount=/proc/${this.shell.pid}/ns/mnt`, '--', process.execPath, program, ...words])
    this.#children.push(child)
    let output = ''
    for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', (text: string) => { output += text })
    return { output: () => output, ended: once(child, 'close').then(([code]) => code as number | null) }
  }

  async sees (running: ReturnType<CsiPod['assay']>, times: number, words: string): Promise<void> {
    await eventually(() => `${times} times ${words} in:\n${running.output()}`, () => running.output().split(words).length > times, 60_000)
  }

  async [Symbol.asyncDispose] (): Promise<void> {
    for (const child of this.#children) {
      if (child.exitCode !== null || child.signalCode !== null) continue
      child.kill('SIGKILL')
      await once(child, 'exit')
    }
  }
}
