import { once } from 'node:events'
import type { ChildProcess } from 'node:child_process'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import type { PodNetwork } from './pods.ts'

const program = join(import.meta.dirname, 'held-connections.mjs')
interface Reply { readonly id: number, readonly result?: unknown, readonly error?: string }

/** Long-lived connections of one process, in a pod or on the node. */
export class HeldConnections {
  readonly #child: ChildProcess
  readonly #waiting = new Map<number, (reply: Reply) => void>()
  #last = 0

  /** @param folder of an SVID: connections are mTLS */
  constructor (network: PodNetwork, pod: string | undefined, folder?: string) {
    this.#child = network.spawnIn(pod, process.execPath, program, ...folder === undefined ? [] : [folder])
    createInterface({ input: this.#child.stdout! }).on('line', line => {
      const reply = JSON.parse(line) as Reply
      this.#waiting.get(reply.id)?.(reply)
      this.#waiting.delete(reply.id)
    })
    void once(this.#child, 'exit').then(() => {
      for (const [id, answer] of this.#waiting) answer({ id, error: 'the program ended' })
    })
  }

  /** An HTTP/2 server, without TLS; bodies of POST come back as they come. */
  async serve (port: number): Promise<void> { await this.#do('serve', { port }) }
  /** Says hello and waits for it to come back. @returns whether it did */
  async tcp (name: string, host: string, port: number): Promise<boolean> { return await this.#works('tcp', { name, host, port }) }
  async say (name: string, text: string): Promise<boolean> { return await this.#works('say', { name, text }) }
  async h2 (name: string, host: string, port: number): Promise<void> { await this.#do('h2', { name, host, port }) }
  /** @returns the status, or why there is none */
  async ask (name: string, path: string): Promise<unknown> {
    const { result, error } = await this.#reply('ask', { name, path })
    return error ?? result
  }

  /** A request on a connection of HTTP/2 that goes on; what `say` sends on it comes back. */
  async stream (name: string, on: string, path: string): Promise<boolean> { return await this.#works('stream', { name, on, path }) }
  async ended (name: string): Promise<void> { await this.#do('ended', { name }) }
  async lives (name: string): Promise<boolean> { return (await this.#reply('lives', { name })).result === true }

  async #works (task: string, about: object): Promise<boolean> { return (await this.#reply(task, about)).error === undefined }

  async #do (task: string, about: object): Promise<void> {
    const { error } = await this.#reply(task, about)
    if (error !== undefined) throw new Error(`${task}: ${error}`)
  }

  #reply (task: string, about: object): Promise<Reply> {
    const id = ++this.#last
    const reply = new Promise<Reply>(resolve => this.#waiting.set(id, resolve))
    this.#child.stdin?.write(`${JSON.stringify({ id, task, ...about })}\n`)
    return reply
  }
}
