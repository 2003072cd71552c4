import { codeOf, SpiffeError } from '../../spiffe/errors.ts'
import { TokenClient } from './token-client.ts'
import type { OpenToken } from './token-messages.ts'

type Question = Parameters<TokenClient['ask']>

/** A token, by a process that is started anew when it has ended. A PIN that was refused is not tried again: tokens lock themselves. */
export class TokenAccess implements AsyncDisposable {
  readonly #token: OpenToken
  #client: TokenClient | undefined
  #refused: SpiffeError | undefined

  constructor (token: OpenToken) { this.#token = token }

  /** One after the other. @returns `undefined` when the key is gone. @throws {SpiffeError} `key_service_*` */
  async ask (...question: Question): Promise<Uint8Array | undefined> {
    this.#refuseIfRefused()
    if (this.#client?.alive !== true) this.#client = new TokenClient(this.#token)
    return await this.#rememberRefusal(this.#client.ask(...question))
  }

  /** Beside what else is asked, in a process of its own. */
  async askAside (...question: Question): Promise<Uint8Array | undefined> {
    this.#refuseIfRefused()
    await using client = new TokenClient(this.#token)
    return await this.#rememberRefusal(client.ask(...question))
  }

  async [Symbol.asyncDispose] (): Promise<void> { await this.#client?.[Symbol.asyncDispose]() }

  #refuseIfRefused (): void {
    if (this.#refused === undefined) return
    throw new SpiffeError('key_service_refused', `${this.#refused.message}; it is not tried again, so as not to lock the token: restart`)
  }

  async #rememberRefusal<T> (answer: Promise<T>): Promise<T> {
    try {
      return await answer
    } catch (error) {
      if (codeOf(error) === 'key_service_refused') this.#refused = error as SpiffeError
      throw error
    }
  }
}
