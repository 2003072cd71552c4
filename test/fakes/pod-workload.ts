import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { join } from 'node:path'
import type { PodNetwork } from './pods.ts'

export interface Reply {
  readonly status?: number
  readonly body?: string
  /** Of a connection that failed. */
  readonly error?: string
  readonly headers?: Readonly<Record<string, string>>
}

const program = join(import.meta.dirname, 'pod-program.mjs')

export interface Asked {
  /** `GET` unless given. */
  readonly method?: string
  readonly path?: string
  readonly headers?: Readonly<Record<string, string>>
  /** To call from; any free one unless given. */
  readonly localPort?: number
}

/** A program in a pod that serves HTTP on 8080 and TCP on 9000, and calls others. */
export class PodWorkload {
  readonly #child: ChildProcess
  readonly #waiting = new Map<number, (reply: Reply) => void>()
  #last = 0

  private constructor (child: ChildProcess) {
    this.#child = child
    // Whoever asks one that was killed has no answer.
    child.stdin?.on('error', () => {})
  }

  static async start (network: PodNetwork, pod: string): Promise<PodWorkload> {
    return await PodWorkload.#follow(pod, network.spawnIn(pod, process.execPath, program, pod, '8080', '9000'))
  }

  /** A process of a user of the node itself, beside its proxy. */
  static async startOnNode (network: PodNetwork, uid: number): Promise<PodWorkload> {
    const as = ['setpriv', `--reuid=${uid}`, `--regid=${uid}`, '--clear-groups']
    return await PodWorkload.#follow('node', network.spawnIn(undefined, ...as, process.execPath, program, 'node', '0', '0'))
  }

  static async #follow (pod: string, child: ChildProcess): Promise<PodWorkload> {
    const workload = new PodWorkload(child)
    await new Promise<void>((resolve, reject) => {
      child.once('exit', code => {
        reject(new Error(`the workload of ${pod} ended: ${code}`))
        for (const answer of workload.#waiting.values()) answer({ error: 'the caller ended' })
        workload.#waiting.clear()
      })
      createInterface({ input: child.stdout! }).on('line', line => {
        const reply = JSON.parse(line) as Reply & { ready?: string, id: number }
        if (reply.ready !== undefined) return resolve()
        workload.#waiting.get(reply.id)?.(reply)
        workload.#waiting.delete(reply.id)
      })
    })
    return workload
  }

  http (host: string, port: number, { method, path = '/', headers = {}, localPort }: Asked = {}): Promise<Reply> {
    return this.#ask({ kind: 'http', host, port, method, path, headers, localPort })
  }

  /** Says hello and reads what comes back: the other's name, and hello again. */
  tcp (host: string, port: number): Promise<Reply> { return this.#ask({ kind: 'tcp', host, port }) }

  /** As `nsenter` became the program, its own. */
  get pid (): number { return this.#child.pid ?? 0 }

  async kill (): Promise<void> {
    const ended = once(this.#child, 'exit')
    this.#child.kill('SIGKILL')
    await ended
  }

  #ask (what: object): Promise<Reply> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return Promise.resolve({ error: 'the caller ended' })
    const id = ++this.#last
    const reply = new Promise<Reply>(resolve => this.#waiting.set(id, resolve))
    this.#child.stdin?.write(`${JSON.stringify({ id, ...what })}\n`)
    return reply
  }
}
