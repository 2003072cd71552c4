import { fork, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { SpiffeError } from '../../spiffe/errors.ts'
import type { OpenToken, TokenReply, TokenRequest } from './token-messages.ts'

/** The file beside this one, which is JavaScript where this one is. */
const program = new URL(import.meta.url.endsWith('.ts') ? './token-process.ts' : './token-process.js', import.meta.url)

type Question<R = TokenRequest> = R extends TokenRequest ? Omit<R, 'id'> : never

interface Waiting { resolve (bytes: Uint8Array | undefined): void, reject (error: Error): void }

/** One process with one session. When a call is given up, it is killed with all that waits: nothing else ends a module that hangs. */
export class TokenClient implements AsyncDisposable {
  readonly #child: ChildProcess
  readonly #waiting = new Map<number, Waiting>()
  readonly #ended: Promise<unknown>
  #opened: Promise<unknown> | undefined
  readonly #token: OpenToken
  #next = 0
  #alive = true

  constructor (token: OpenToken) {
    this.#token = token
    this.#child = fork(program, { serialization: 'advanced', execArgv: [], stdio: ['ignore', 'ignore', 'ignore', 'ipc'] })
    this.#ended = once(this.#child, 'exit').catch(() => {})
    this.#child.on('message', (reply: TokenReply) => { this.#take(reply) })
    this.#child.on('error', error => { this.#end(error.message) })
    this.#child.on('exit', (code, signal) => { this.#end(`its process ended (${signal ?? code})`) })
    // A token keeps no process alive that has nothing else to do.
    this.#child.unref()
    this.#child.channel?.unref()
  }

  /** Whether it can be asked again. */
  get alive (): boolean { return this.#alive }

  /** @returns `undefined` when the key is gone. @throws {SpiffeError} `key_service_*` */
  async ask (question: Question, signal: AbortSignal): Promise<Uint8Array | undefined> {
    signal.throwIfAborted()
    const giveUp = () => { this.#end('a call was given up') }
    signal.addEventListener('abort', giveUp, { once: true })
    this.#child.channel?.ref()
    try {
      await (this.#opened ??= this.#send({ call: 'open', token: this.#token }))
      return await this.#send(question)
    } catch (error) {
      signal.throwIfAborted()
      throw error
    } finally {
      signal.removeEventListener('abort', giveUp)
      if (this.#waiting.size === 0) this.#child.channel?.unref()
    }
  }

  async [Symbol.asyncDispose] (): Promise<void> {
    this.#end('the key manager is closed')
    this.#child.ref()
    await this.#ended
  }

  #send (question: Question): Promise<Uint8Array | undefined> {
    if (!this.#alive) throw new SpiffeError('key_service_failed', 'the token\'s process has ended')
    const id = this.#next++
    const answered = Promise.withResolvers<Uint8Array | undefined>()
    this.#waiting.set(id, answered)
    this.#child.send({ ...question, id })
    return answered.promise
  }

  #take (reply: TokenReply): void {
    const waiting = this.#waiting.get(reply.id)
    this.#waiting.delete(reply.id)
    if (!('failed' in reply)) return waiting?.resolve(reply.bytes)
    const { failed, why } = reply
    if (why === 'pin') return waiting?.reject(new SpiffeError('key_service_refused', `the token refuses the PIN: ${failed}`))
    if (why === 'data') return waiting?.reject(new SpiffeError('key_encryption_key_invalid', `the token does not decrypt it: ${failed}`))
    if (why === 'module') return waiting?.reject(new SpiffeError('key_service_unreachable', `no token: ${failed}`))
    waiting?.reject(new SpiffeError('key_service_failed', `the token fails: ${failed}`))
    // A session that was lost, a token that was pulled: begun anew.
    this.#end('the token failed')
  }

  #end (why: string): void {
    this.#alive = false
    this.#child.kill('SIGKILL')
    const gone = new SpiffeError('key_service_failed', `the token's process is gone: ${why}`)
    for (const waiting of this.#waiting.values()) waiting.reject(gone)
    this.#waiting.clear()
  }
}
