import { SpiffeError } from '../../spiffe/errors.ts'
import { describeAnswer, member, type VaultAnswer } from '../../vault/vault-http.ts'
import { encodeMount } from '../../vault/vault-login.ts'
import type { VaultSession } from '../../vault/vault-session.ts'
import type { KeyEncryptionService } from '../database/key-encryption-service.ts'

/** Characters of a ciphertext that wraps 32 bytes, with room for keys of RSA. */
const longestCiphertext = 1_024

/** A key in Vault's or OpenBao's transit engine. Versions are Vault's: what an older one has encrypted it decrypts. */
export class VaultEncryption implements KeyEncryptionService {
  readonly name = 'hashicorp_vault'
  readonly #session: VaultSession
  readonly #engine: string
  readonly #keyName: string

  constructor (session: VaultSession, transitEnginePath: string, keyName: string) {
    this.#session = session
    this.#engine = encodeMount(transitEnginePath)
    this.#keyName = keyName
  }

  async encrypt (dataKey: Uint8Array, signal: AbortSignal): Promise<Uint8Array> {
    const answer = await this.#ask('encrypt', { plaintext: Buffer.from(dataKey).toString('base64') }, signal)
    if (answer.status >= 300) throw this.#refusal(answer, 'encrypt')
    const { ciphertext } = member(answer.body, 'data')
    if (typeof ciphertext !== 'string' || ciphertext.length > longestCiphertext || !/^vault:v\d+:[A-Za-z0-9+/]+={0,2}$/.test(ciphertext)) {
      throw this.#session.malformed('without a ciphertext')
    }
    return Buffer.from(ciphertext)
  }

  async decrypt (wrapped: Uint8Array, signal: AbortSignal): Promise<Uint8Array> {
    const answer = await this.#ask('decrypt', { ciphertext: Buffer.from(wrapped).toString('latin1') }, signal)
    if (answer.status === 400 && answer.errors.some(error => /cipher|disallowed by policy/i.test(error))) {
      throw new SpiffeError('key_encryption_key_invalid', `vault does not decrypt it with ${this.#keyName}: ${describeAnswer(answer)}`)
    }
    if (answer.status >= 300) throw this.#refusal(answer, 'decrypt')
    const { plaintext } = member(answer.body, 'data')
    if (typeof plaintext !== 'string' || !/^[A-Za-z0-9+/]+={0,2}$/.test(plaintext)) throw this.#session.malformed('without a plaintext')
    return new Uint8Array(Buffer.from(plaintext, 'base64'))
  }

  async [Symbol.asyncDispose] (): Promise<void> { await this.#session[Symbol.asyncDispose]() }

  async #ask (verb: 'encrypt' | 'decrypt', body: object, signal: AbortSignal): Promise<VaultAnswer> {
    return await this.#session.ask('POST', `${this.#engine}/${verb}/${encodeURIComponent(this.#keyName)}`, signal, body)
  }

  #refusal (answer: VaultAnswer, what: string): SpiffeError {
    const why = `vault does not ${what} with ${this.#keyName}: ${describeAnswer(answer)}`
    if (answer.errors.some(error => /key not found/i.test(error))) return new SpiffeError('key_service_key_gone', why)
    return new SpiffeError('key_service_refused', `${why}; is the transit engine at that path?`)
  }
}
