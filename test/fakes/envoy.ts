import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { request } from 'node:http'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { eventually as until } from './eventually.ts'

export { until }

/** The Envoy that set-up brought, or the one on PATH; `undefined` when there is none. */
export function findEnvoy (): string | undefined {
  const brought = join(import.meta.dirname, '../../.assay-tools/envoy-1.40.0/envoy/_bin/envoy')
  const onPath = (process.env['PATH'] ?? '').split(delimiter).map(folder => join(folder, 'envoy'))
  return [brought, ...onPath].find(candidate => existsSync(candidate) && runs(candidate))
}

/** Why tests with a real Envoy are passed over; `false` when there is one. */
export function noEnvoy (): string | false { return findEnvoy() === undefined && 'there is no Envoy here; `npm test` brings one' }

function runs (file: string): boolean {
  try {
    return execFileSync(file, ['--version'], { stdio: ['ignore', 'pipe', 'ignore'] }).includes('version')
  } catch {
    return false
  }
}

export interface HttpAnswer { readonly status: number, readonly headers: Readonly<Record<string, string>>, readonly body: string }

/** A real Envoy, run from a configuration object; its listeners and its admin API may ask for port 0. */
export class Envoy implements AsyncDisposable {
  readonly #process: ChildProcess
  readonly #folder: string
  #admin: number | undefined
  #log = ''

  private constructor (process: ChildProcess, folder: string) {
    this.#process = process
    this.#folder = folder
    process.stderr?.setEncoding('utf8').on('data', text => { this.#log += text })
  }

  /** Returns once the admin API answers, which is long before Envoy is ready if it waits for secrets. */
  static async start (config: object, { file = findEnvoy(), logLevel = 'info' } = {}): Promise<Envoy> {
    if (file === undefined) throw new Error('there is no envoy; run `npm run setup`')
    const folder = await mkdtemp(join(tmpdir(), 'envoy-'))
    const configFile = join(folder, 'envoy.json')
    writeFileSync(configFile, JSON.stringify({ admin: { address: localAddress(0) }, ...config }))
    const args = ['-c', configFile, '--admin-address-path', join(folder, 'admin'), '-l', logLevel]
    const alone = ['--disable-hot-restart', '--concurrency', '1']
    const envoy = new Envoy(spawn(file, [...args, ...alone], { stdio: ['ignore', 'ignore', 'pipe'] }), folder)
    try {
      // It reads all of its configuration first, which takes a busy machine long.
      await until('Envoy\'s admin API', () => envoy.#findAdmin(), 120_000)
    } catch (error) {
      await envoy[Symbol.asyncDispose]()
      throw error
    }
    return envoy
  }

  get pid (): number { return this.#process.pid as number }
  get log (): string { return this.#log }
  get running (): boolean { return this.#process.exitCode === null && this.#process.signalCode === null }

  async admin (path: string): Promise<string> {
    return (await get(this.#admin as number, path)).body
  }

  /** Parsed `/stats?format=json`, by name. */
  async stats (filter: string): Promise<Map<string, number | string>> {
    const { stats } = JSON.parse(await this.admin(`/stats?format=json&filter=${encodeURIComponent(filter)}`)) as
      { stats: { name: string, value: number | string }[] }
    return new Map(stats.filter(stat => stat.name !== undefined).map(stat => [stat.name, stat.value]))
  }

  /** The port a listener really has; `undefined` until it listens. */
  async listenerPort (name: string): Promise<number | undefined> {
    const { listener_statuses: listeners = [] } = JSON.parse(await this.admin('/listeners?format=json')) as
      { listener_statuses?: { name: string, local_address: { socket_address: { port_value: number } } }[] }
    return listeners.find(listener => listener.name === name)?.local_address.socket_address.port_value
  }

  async isReady (): Promise<boolean> {
    return (await get(this.#admin as number, '/ready')).status === 200
  }

  async ready (): Promise<void> {
    // While it makes what it was told, it answers nobody.
    await until('Envoy to be ready', () => this.isReady().catch(error => {
      if (this.running) return false
      throw error
    }), 120_000)
  }

  async [Symbol.asyncDispose] (): Promise<void> {
    if (this.running) {
      this.#process.kill('SIGKILL')
      await once(this.#process, 'exit')
    }
    await rm(this.#folder, { recursive: true, force: true })
  }

  async #findAdmin (): Promise<boolean> {
    if (!this.running) throw new Error(`envoy ended:\n${this.#log}`)
    const file = join(this.#folder, 'admin')
    const port = existsSync(file) ? /:(\d+)\s*$/.exec(readFileSync(file, 'utf8'))?.[1] : undefined
    if (port === undefined) return false
    this.#admin = Number(port)
    return true
  }
}

export function localAddress (port: number): object {
  return { socket_address: { address: '127.0.0.1', port_value: port } }
}

/** One HTTP/1.1 GET on a connection of its own. */
export function get (port: number, path = '/'): Promise<HttpAnswer> {
  return new Promise((resolve, reject) => {
    const sent = request({ host: '127.0.0.1', port, path, agent: false, timeout: 60_000 }, response => {
      let body = ''
      response.setEncoding('utf8').on('data', text => { body += text }).on('error', reject)
        .on('end', () => resolve({ status: response.statusCode ?? 0, headers: response.headers as Record<string, string>, body }))
    })
    sent.on('timeout', () => sent.destroy(new Error(`no answer from port ${port}`))).on('error', reject).end()
  })
}
