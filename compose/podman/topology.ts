import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { dependenciesOf, readComposeFile, runWords, type ComposeFile, type DependsOn } from './compose-file.ts'
import { imagePath, makeHostRoot, type HostImageOptions } from './host-image.ts'
import { Podman, type PodmanOptions } from './podman.ts'

const file = join(import.meta.dirname, '../compose.yaml')
const network = 'mesh'
const images = { assay: 'localhost/assay', 'postgres:17-bookworm': 'localhost/assay-postgres' }
const conditionTimeoutMs = 180_000
const pollMs = 500

export interface PodmanTopologyOptions extends PodmanOptions, Omit<HostImageOptions, 'root'> {
  readonly progress: (text: string) => void
}

/** The containers of compose.yaml, run by podman from images made of this machine's programs. Disposing removes all of it. */
export class PodmanTopology implements AsyncDisposable {
  readonly #podman: Podman
  readonly #options: PodmanTopologyOptions
  readonly #compose: ComposeFile

  constructor (options: PodmanTopologyOptions) {
    this.#options = options
    this.#compose = readComposeFile(file)
    this.#podman = new Podman(options)
  }

  /** On return each container has been started once those it depends on are as they must be. */
  async start (): Promise<void> {
    const { progress } = this.#options
    progress('making images of this machine\'s programs')
    await this.#makeImages()
    await this.#podman.call('network', 'create', '--subnet', this.#compose.subnet, network)
    for (const [name, service] of this.#compose.services) {
      for (const [other, condition] of dependenciesOf(service)) await this.#until(other, condition)
      progress(`starting ${name}`)
      await this.#podman.call(...runWords(file, name, service, images))
    }
  }

  /** What a container has written so far. */
  logs (name: string): Promise<string> { return this.#podman.call('logs', name) }
  /** @param options of `podman exec`, such as `--user` */
  exec (name: string, words: readonly string[], options: readonly string[] = []): Promise<string> {
    return this.#podman.call('exec', ...options, name, ...words)
  }

  async kill (name: string): Promise<void> { await this.#podman.call('kill', name) }

  async #makeImages (): Promise<void> {
    const { folder, envoy, postgres } = this.#options
    const root = join(folder, 'root')
    mkdirSync(root)
    await makeHostRoot({ root, envoy, postgres })
    await this.#podman.importImage(images.assay, root, [`ENV PATH=${imagePath(postgres)}`, 'ENV PGDATA=/var/lib/postgresql/data'])
    rmSync(root, { recursive: true })
    const context = join(folder, 'context')
    mkdirSync(context)
    writeFileSync(join(context, 'Containerfile'), `FROM ${images.assay}\nENTRYPOINT ["postgres-entrypoint"]\n`)
    await this.#podman.call('build', '--isolation', 'chroot', '--tag', images['postgres:17-bookworm'], context)
  }

  async #until (name: string, condition: DependsOn): Promise<void> {
    const end = performance.now() + conditionTimeoutMs
    for (;;) {
      const told = await this.#podman.call('inspect', '--format', '{{.State.Status}} {{.State.ExitCode}}', name)
      const [state = '', code = ''] = told.trim().split(' ')
      const ended = state === 'exited' || state === 'stopped'
      if (ended && (code !== '0' || condition !== 'service_completed_successfully')) {
        throw new Error(`${name} ended with ${code}: ${(await this.logs(name)).slice(-2_000)}`)
      }
      if (condition === 'service_started' || (condition === 'service_healthy' ? await this.#isHealthy(name) : ended)) return
      if (performance.now() > end) throw new Error(`${name} is ${state}, not ${condition}: ${(await this.logs(name)).slice(-2_000)}`)
      await sleep(pollMs)
    }
  }

  /** Asked by us: podman leaves it to systemd, which there need not be. */
  async #isHealthy (name: string): Promise<boolean> {
    const [kind, ...words] = this.#compose.services.get(name)?.healthcheck?.test ?? []
    if (kind !== 'CMD') throw new Error(`${name} has no health check that is a command`)
    return await this.exec(name, words).then(() => true, () => false)
  }

  /** As a whole: what the kernel does not remove when the enclosure ends, control groups and storage, is removed before. */
  async [Symbol.asyncDispose] (): Promise<void> {
    // Who shares another's namespaces must go first.
    for (const name of [...this.#compose.services.keys()].toReversed()) {
      await this.#podman.call('rm', '--ignore', '--force', '--time', '0', '--volumes', name)
    }
  }
}
