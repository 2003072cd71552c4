import { SpiffeError } from '../../spiffe/errors.ts'
import type { KeyType } from '../../x509/key-type.ts'
import type { CreatedKey, KeyService } from '../remote/key-service.ts'
import { TokenAccess } from './token-access.ts'
import type { OpenToken } from './token-messages.ts'

/** Keys of a PKCS#11 token; a location is the label of both halves. A key is made in a process of its own: signing goes on meanwhile. */
export class Pkcs11KeyService implements KeyService {
  readonly name = 'pkcs11'
  readonly #token: TokenAccess

  constructor (token: OpenToken) { this.#token = new TokenAccess(token) }

  async create (name: string, type: KeyType, signal: AbortSignal): Promise<CreatedKey> {
    const publicKey = await this.#token.askAside({ call: 'create', name, type }, signal)
    if (publicKey === undefined) throw new SpiffeError('key_service_malformed', 'the token shows no public key of what it made')
    return { location: name, publicKey }
  }

  async publicKeyOf (location: string, signal: AbortSignal): Promise<Uint8Array> {
    return await this.#token.ask({ call: 'publicKeyOf', name: location }, signal) ?? gone(location)
  }

  async sign (location: string, type: KeyType, digest: Uint8Array, signal: AbortSignal): Promise<Uint8Array> {
    return await this.#token.ask({ call: 'sign', name: location, type, digest }, signal) ?? gone(location)
  }

  async remove (location: string, signal: AbortSignal): Promise<void> {
    await this.#token.ask({ call: 'remove', name: location }, signal)
  }

  async [Symbol.asyncDispose] (): Promise<void> { await this.#token[Symbol.asyncDispose]() }
}

function gone (location: string): never {
  throw new SpiffeError('key_service_key_gone', `the token has no key ${location} any more`)
}
