import { execFile, spawn } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'

const run = promisify(execFile)

export interface PodmanOptions {
  /** For images, containers and configuration; nothing of it is kept elsewhere. */
  readonly folder: string
  /** Words before each command, which make it run in a network namespace: bridges and rules are then made there. */
  readonly enter: readonly string[]
}

/** Podman with a storage and a configuration of its own, as root; containers live until they are removed. */
export class Podman {
  readonly #words: readonly string[]
  readonly #environment: NodeJS.ProcessEnv

  constructor ({ folder, enter }: PodmanOptions) {
    const config = join(folder, 'containers.conf')
    mkdirSync(join(folder, 'networks'), { recursive: true })
    writeFileSync(config, configuration(join(folder, 'networks')))
    this.#words = [...enter, 'podman', '--root', join(folder, 'storage'), '--runroot', join(folder, 'run')]
    this.#environment = { ...process.env, CONTAINERS_CONF: config, TMPDIR: folder }
  }

  /** @returns what it printed, errors of the program in the container included. Throws when it fails, with that in the message */
  async call (...words: string[]): Promise<string> {
    const [program = '', ...rest] = [...this.#words, ...words]
    try {
      const { stdout, stderr } = await run(program, rest, { env: this.#environment, maxBuffer: 1 << 26 })
      return `${stdout}${stderr}`
    } catch (error) {
      const { stderr = '', message } = error as { stderr?: string, message: string }
      throw new Error(`podman ${words[0]}: ${stderr.trim() || message}`, { cause: error })
    }
  }

  /** Makes an image of all that is in a folder. @param changes lines as in a Containerfile */
  async importImage (name: string, folder: string, changes: readonly string[]): Promise<void> {
    const [program = '', ...rest] = this.#words
    const words = [...rest, 'import', ...changes.flatMap(change => ['--change', change]), '-', name]
    const tar = spawn('tar', ['-C', folder, '-c', '.'], { stdio: ['ignore', 'pipe', 'inherit'] })
    const importing = spawn(program, words, { env: this.#environment, stdio: [tar.stdout, 'ignore', 'pipe'] })
    let said = ''
    importing.stderr.setEncoding('utf8').on('data', text => { said += text })
    const code = await new Promise<number | null>((resolve, reject) => {
      for (const child of [tar, importing]) child.once('error', reject)
      importing.once('close', resolve)
    })
    if (code !== 0) throw new Error(`podman import: ${said.trim()}`)
  }
}

/** Podman's defaults, but where this machine is known to refuse them. */
function configuration (networks: string): string {
  const limits = readFileSync('/proc/self/limits', 'utf8')
  const limit = (name: string) => {
    const hard = Number(new RegExp(`^${name} +\\S+ +(\\d+)`, 'm').exec(limits)?.[1] ?? Infinity)
    return Array(2).fill(Math.min(hard, 20_000)).join(':')
  }
  const runc = ['/usr/sbin/runc', '/usr/bin/runc', '/usr/local/sbin/runc', '/usr/local/bin/runc'].some(existsSync)
  return `[containers]
# Not more than we have ourselves: raising them takes CAP_SYS_RESOURCE.
default_ulimits = ["nofile=${limit('Max open files')}", "nproc=${limit('Max processes')}"]
[engine]
# There need not be a systemd to ask.
cgroup_manager = "cgroupfs"
events_logger = "file"
${runc ? '# crun refuses control groups of both versions at once.\nruntime = "runc"' : ''}
[network]
network_config_dir = ${JSON.stringify(networks)}
`
}
