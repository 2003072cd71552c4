import type { ManagedProcess } from '../managed-process.ts'
import { readJsonLine } from '../read-json-line.ts'
import type { Pod } from './pod-network.ts'

/** @property status 0 when nobody answered; the body then says why */
export interface PodAnswer { readonly status: number, readonly body: string }

/** Has the workload of a pod call others; `workloads/pod.ts`. */
export class PodClient {
  readonly pod: Pod
  readonly #waiting = new Map<number, (answer: PodAnswer) => void>()
  #process: ManagedProcess | undefined
  #last = 0

  constructor (pod: Pod) { this.pod = pod }

  /** A line of its standard output. */
  readonly read = (line: string): void => {
    const { id, status, body } = readJsonLine(line) ?? {}
    if (typeof id !== 'number') return
    this.#waiting.get(id)?.({ status: Number(status), body: String(body) })
    this.#waiting.delete(id)
  }

  attach (process: ManagedProcess): void { this.#process = process }

  /** Never resolves when the process ends; whoever started it notices. */
  call (host: string, port: number): Promise<PodAnswer> {
    const id = ++this.#last
    const { promise, resolve } = Promise.withResolvers<PodAnswer>()
    this.#waiting.set(id, resolve)
    this.#process?.send(JSON.stringify({ id, host, port }))
    return promise
  }
}
