import { createInterface } from 'node:readline'
import { join } from 'node:path'
import type { PodNetwork } from '../../test/fakes/pods.ts'
import type { LoadFigures, LoadOrder } from './load-program.ts'

/** The program in a pod. */
export class LoadWorkload {
  readonly #lines: AsyncIterator<string>
  readonly #stdin: NodeJS.WritableStream

  private constructor (lines: AsyncIterator<string>, stdin: NodeJS.WritableStream) {
    this.#lines = lines
    this.#stdin = stdin
  }

  static async start (network: PodNetwork, pod: string): Promise<LoadWorkload> {
    const child = network.spawnIn(pod, process.execPath, join(import.meta.dirname, 'load-program.ts'))
    const workload = new LoadWorkload(createInterface({ input: child.stdout! })[Symbol.asyncIterator](), child.stdin!)
    await workload.#next()
    return workload
  }

  /** One order after the other. @throws when a request failed */
  async load (order: LoadOrder): Promise<LoadFigures> {
    this.#stdin.write(`${JSON.stringify(order)}\n`)
    const figures = JSON.parse(await this.#next()) as LoadFigures
    if (figures.failure !== undefined) throw new Error(`${order.host}:${order.port}: ${figures.failure} after ${figures.requests} requests`)
    return figures
  }

  async #next (): Promise<string> {
    const { value, done } = await this.#lines.next()
    if (done === true) throw new Error('the workload ended')
    return value
  }
}
