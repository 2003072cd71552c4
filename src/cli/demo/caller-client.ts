import type { ManagedProcess } from './managed-process.ts'
import { readJsonLine } from './read-json-line.ts'

export interface Answer { readonly id: string, readonly status: number, readonly body: string }
export interface LoopResult { readonly requests: number, readonly failures: number, readonly firstFailure?: string }

/** Gives orders to `workloads/caller.ts`. */
export class CallerClient {
  readonly #process: ManagedProcess

  constructor (process: ManagedProcess) { this.#process = process }

  /** One request, whatever becomes of it. */
  async call (): Promise<Answer> { return await this.#ask('call', 'answer') as Answer }
  startLoop (): void { this.#process.send('loop') }
  async stopLoop (): Promise<LoopResult> { return await this.#ask('stop', 'loop') as LoopResult }

  async #ask (order: string, fact: string): Promise<unknown> {
    const answer = this.#process.line(`what came of "${order}"`, line => readJsonLine(line)?.[fact])
    this.#process.send(order)
    return await answer
  }
}
