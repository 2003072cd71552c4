import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { connect } from 'node:net'
import { join } from 'node:path'
import { type CachedBuild, runGo } from '../../scripts/cached-build.ts'
import { eventually } from './eventually.ts'
import { freePort } from './free-port.ts'

const source = join(import.meta.dirname, '../interop/ghostunnel')

/** Ghostunnel: wraps connections in mTLS with what the Workload API gives it, through go-spiffe. */
export const ghostunnel: CachedBuild = {
  name: 'ghostunnel', version: '1.8.4', variable: 'GHOSTUNNEL_BIN', buildVariable: 'GHOSTUNNEL_BUILD', costs: 'a minute of CPU',
  inputs: ['go.mod', 'go.sum'].map(name => join(source, name)),
  build: async program => { await runGo(source, ['build', '-ldflags=-s -w', '-o', program, 'github.com/ghostunnel/ghostunnel']) }
}

export interface GhostunnelOptions {
  readonly mode: 'client' | 'server'
  /** Of the Workload API. */
  readonly socket: string
  /** A port of this machine to pass on to. */
  readonly target: number
  /** Who may be at the other end. */
  readonly peer: string
}

/** One that runs until disposed of. */
export class Ghostunnel implements AsyncDisposable {
  readonly port: number
  readonly #child: ChildProcess
  log = ''

  private constructor (child: ChildProcess, port: number) {
    this.#child = child
    this.port = port
    for (const stream of [child.stdout, child.stderr]) stream?.setEncoding('utf8').on('data', (text: string) => { this.log += text })
  }

  /** @param program its path */
  static async start (program: string, { mode, socket, target, peer }: GhostunnelOptions): Promise<Ghostunnel> {
    const port = await freePort()
    const tunnel = new Ghostunnel(spawn(program, [
      mode, `--use-workload-api-addr=unix://${socket}`, `--listen=127.0.0.1:${port}`, `--target=127.0.0.1:${target}`,
      mode === 'server' ? `--allow-uri=${peer}` : `--verify-uri=${peer}`
    ], { stdio: ['ignore', 'pipe', 'pipe'] }), port)
    await eventually(() => `Ghostunnel to listen: ${tunnel.log}`, async () => await reached(port), 60_000)
    return tunnel
  }

  async [Symbol.asyncDispose] (): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return
    this.#child.kill('SIGKILL')
    await once(this.#child, 'exit')
  }
}

async function reached (port: number): Promise<boolean> {
  return await new Promise(resolve => {
    const socket = connect(port, '127.0.0.1', () => { socket.destroy(); resolve(true) }).on('error', () => resolve(false))
  })
}
