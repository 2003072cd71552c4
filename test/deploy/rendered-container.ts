import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, statSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { ContainerGroup } from '../fakes/container-group.ts'
import { confiner } from './rendered-images.ts'

export interface Mount { readonly from: string, readonly to: string, readonly readOnly: boolean }

export interface ContainerSpec {
  readonly root: string
  /** The program and its arguments, within the root. */
  readonly words: readonly string[]
  readonly environment: Readonly<Record<string, string>>
  readonly mounts: readonly Mount[]
  readonly user: number
  readonly group: number
  /** Names without CAP_; the container has these and cannot get others. */
  readonly capabilities: readonly string[]
  /** Path of the pod's network namespace. */
  readonly netns: string
  /** As the kubelet and its runtime name control groups: `/kubepods/pod<uid>/<id>`. */
  readonly controlGroup: string
}

/**
 * Mounts as a runtime does, those of the node's that come later included where the node shares them, then the program as its user with its
 * capabilities. Processes are the host's. The runner of tests gives NODE_OPTIONS to whatever is started.
 */
const enter = `set -e
unset NODE_OPTIONS
root=$1; count=$2; shift 2
mount --bind "$root" "$root"
while [ $count -gt 0 ]; do
  mount --rbind "$1" "$root$2"
  if [ "$3" = ro ]; then mount -o remount,bind,ro "$root$2"; fi
  shift 3; count=$((count - 1))
done
mount --rbind /dev "$root/dev"
mount -t proc proc "$root/proc"
mount -o remount,bind,ro "$root"
exec unshare --root="$root" --wd=/ "$@"`

/** One container of a pod, as its manifest has it, in a root of its own. */
export class RenderedContainer implements AsyncDisposable {
  readonly #spec: ContainerSpec
  readonly #group: ContainerGroup
  readonly #child: ChildProcess
  #said = ''

  constructor (spec: ContainerSpec) {
    this.#spec = spec
    this.#group = new ContainerGroup(spec.controlGroup)
    this.#child = this.#start(spec.words)
    for (const stream of [this.#child.stdout, this.#child.stderr]) {
      stream?.setEncoding('utf8').on('data', (text: string) => { this.#said += text })
    }
  }

  /** What it wrote. */
  get log (): string { return this.#said }
  get ended (): boolean { return this.#child.exitCode !== null || this.#child.signalCode !== null }

  /** Another program in it, as `kubectl exec` starts one. @returns what it wrote to standard output */
  async exec (...words: string[]): Promise<string> {
    const child = this.#start(words)
    let [out, all] = ['', '']
    child.stdout?.setEncoding('utf8').on('data', (text: string) => { out += text; all += text })
    child.stderr?.setEncoding('utf8').on('data', (text: string) => { all += text })
    const [code] = await once(child, 'close') as [number | null]
    if (code !== 0) throw new Error(`${words.join(' ')} ended with ${code}: ${all}`)
    return out
  }

  /** As a kubelet ends it. */
  async stop (signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
    if (this.ended) return
    // With the last that it wrote.
    const close = once(this.#child, 'close')
    this.#child.kill(signal)
    await close
  }

  async [Symbol.asyncDispose] (): Promise<void> {
    await this.stop('SIGKILL')
    this.#group[Symbol.dispose]()
  }

  #start (words: readonly string[]): ChildProcess {
    const { root, mounts, user, group, capabilities, netns, environment } = this.#spec
    for (const { from, to } of mounts) {
      if (statSync(from).isDirectory()) mkdirSync(join(root, to), { recursive: true })
      else {
        mkdirSync(dirname(join(root, to)), { recursive: true })
        writeFileSync(join(root, to), '', { flag: 'a' })
      }
    }
    const bounds = ['-all', ...capabilities.map(name => `+${name.toLowerCase()}`)].join(',')
    const confined = [
      confiner, '--no-new-privs', `--reuid=${user}`, `--regid=${group}`, '--clear-groups', `--bounding-set=${bounds}`, '--inh-caps=-all',
      ...words
    ]
    const child = spawn('nsenter', [
      `--net=${netns}`, 'unshare', '--mount', '--propagation', 'slave', 'sh', '-c', enter, 'sh', root, `${mounts.length}`,
      ...mounts.flatMap(({ from, to, readOnly }) => [from, to, readOnly ? 'ro' : 'rw']), ...confined
    ], { stdio: ['ignore', 'pipe', 'pipe'], env: { PATH: process.env['PATH'] ?? '', ...environment } })
    this.#group.add(child.pid as number)
    return child
  }
}
