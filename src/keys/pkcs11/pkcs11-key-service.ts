import { codeOf, SpiffeError } from '../../spiffe/errors.ts'
import type { KeyType } from '../../x509/key-type.ts'
import type { CreatedKey, KeyService } from '../remote/key-service.ts'
import { TokenClient } from './token-client.ts'
import type { OpenToken } from './token-messages.ts'

/** Keys of a PKCS#11 token; a location is the label of both halves. A key is made in a process of its own: signing goes on meanwhile. */
export class Pkcs11KeyService implements KeyService {
  readonly name = 'pkcs11'
  readonly #token: OpenToken
  #client: TokenClient | undefined
  #refused: SpiffeError | undefined

  constructor (token: OpenToken) { this.#token = token }

  async create (name: string, type: KeyType, signal: AbortSignal): Promise<CreatedKey> {
    this.#refuseIfRefused()
    await using maker = new TokenClient(this.#token)
    const publicKey = await this.#rememberRefusal(maker.ask({ call: 'create', name, type }, signal))
    if (publicKey === undefined) throw new SpiffeError('key_service_malformed', 'the token shows no public key of what it made')
    return { location: name, publicKey }
  }

  async publicKeyOf (location: string, signal: AbortSignal): Promise<Uint8Array> {
    return await this.#ask({ call: 'publicKeyOf', name: location }, signal) ?? gone(location)
  }

  async sign (location: string, type: KeyType, digest: Uint8Array, signal: AbortSignal): Promise<Uint8Array> {
    return await this.#ask({ call: 'sign', name: location, type, digest }, signal) ?? gone(location)
  }

  async remove (location: string, signal: AbortSignal): Promise<void> {
    await this.#ask({ call: 'remove', name: location }, signal)
  }

  async [Symbol.asyncDispose] (): Promise<void> { await this.#client?.[Symbol.asyncDispose]() }

  async #ask (...question: Parameters<TokenClient['ask']>): Promise<Uint8Array | undefined> {
    this.#refuseIfRefused()
    if (this.#client?.alive !== true) this.#client = new TokenClient(this.#token)
    return await this.#rememberRefusal(this.#client.ask(...question))
  }

  /** Tokens lock themselves after a few wrong PINs. */
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

function gone (location: string): never {
  throw new SpiffeError('key_service_key_gone', `the token has no key ${location} any more`)
}
