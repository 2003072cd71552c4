import { SpiffeError } from '../../spiffe/errors.ts'
import type { KeyEncryptionService } from '../database/key-encryption-service.ts'
import { TokenAccess } from './token-access.ts'
import type { OpenToken } from './token-messages.ts'

/** An AES key of a PKCS#11 token, by its label, with CKM_AES_GCM (PKCS#11 2.40, as amended). It is never made here. */
export class Pkcs11Encryption implements KeyEncryptionService {
  readonly name = 'pkcs11'
  readonly #token: TokenAccess
  readonly #label: string

  constructor (token: OpenToken, label: string) {
    this.#token = new TokenAccess(token)
    this.#label = label
  }

  async encrypt (data: Uint8Array, signal: AbortSignal): Promise<Uint8Array> {
    return await this.#token.ask({ call: 'encrypt', name: this.#label, data }, signal) ?? this.#gone()
  }

  async decrypt (data: Uint8Array, signal: AbortSignal): Promise<Uint8Array> {
    return await this.#token.ask({ call: 'decrypt', name: this.#label, data }, signal) ?? this.#gone()
  }

  async [Symbol.asyncDispose] (): Promise<void> { await this.#token[Symbol.asyncDispose]() }

  #gone (): never { throw new SpiffeError('key_service_key_gone', `the token has no secret key labelled ${JSON.stringify(this.#label)}`) }
}
