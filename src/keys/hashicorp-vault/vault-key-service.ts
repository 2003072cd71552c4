import { createPublicKey } from 'node:crypto'
import { SpiffeError } from '../../spiffe/errors.ts'
import { describeAnswer, member, type VaultAnswer } from '../../vault/vault-http.ts'
import { encodeMount } from '../../vault/vault-login.ts'
import type { VaultSession } from '../../vault/vault-session.ts'
import type { KeyType } from '../../x509/key-type.ts'
import type { CreatedKey, KeyService } from '../remote/key-service.ts'

const transitTypes: Readonly<Record<KeyType, string>> = {
  'ec-p256': 'ecdsa-p256', 'ec-p384': 'ecdsa-p384', 'rsa-2048': 'rsa-2048', 'rsa-4096': 'rsa-4096'
}
/** The one version that our keys have; whoever rotates one in Vault changes nothing for us. */
const version = 1
/** Of RSA 4096, in base64. */
const longestSignature = 700

/** Keys in Vault's or OpenBao's transit engine; a location is the key's name there. */
export class VaultKeyService implements KeyService {
  readonly name = 'hashicorp_vault'
  readonly #session: VaultSession
  readonly #engine: string

  constructor (session: VaultSession, transitEnginePath: string) {
    this.#session = session
    this.#engine = encodeMount(transitEnginePath)
  }

  async create (name: string, type: KeyType, signal: AbortSignal): Promise<CreatedKey> {
    const body = { type: transitTypes[type], exportable: false, allow_plaintext_backup: false }
    succeeded(await this.#session.ask('POST', this.#pathOf(name), signal, body), 'make a key')
    return { location: name, publicKey: await this.publicKeyOf(name, signal) }
  }

  async publicKeyOf (location: string, signal: AbortSignal): Promise<Uint8Array> {
    const answer = await this.#session.ask('GET', this.#pathOf(location), signal)
    if (answer.status === 404) throw gone(location)
    const { public_key: pem } = member(member(member(succeeded(answer, 'show a key').body, 'data'), 'keys'), String(version))
    if (typeof pem !== 'string') throw this.#session.malformed('without the public key')
    try {
      return new Uint8Array(createPublicKey(pem).export({ format: 'der', type: 'spki' }))
    } catch {
      throw this.#session.malformed('without the public key')
    }
  }

  async sign (location: string, type: KeyType, digest: Uint8Array, signal: AbortSignal): Promise<Uint8Array> {
    const hash = type === 'ec-p384' ? 'sha2-384' : 'sha2-256'
    const answer = await this.#session.ask('POST', `${this.#engine}/sign/${encodeURIComponent(location)}/${hash}`, signal, {
      input: Buffer.from(digest).toString('base64'),
      prehashed: true,
      key_version: version,
      marshaling_algorithm: 'asn1',
      signature_algorithm: 'pkcs1v15'
    })
    // Versions of Vault say in words of their own that there is no such key.
    if (answer.status >= 400) await this.publicKeyOf(location, signal)
    const { signature } = member(succeeded(answer, 'sign').body, 'data')
    const [, base64] = typeof signature === 'string' && signature.length <= longestSignature
      ? /^vault:v1:([A-Za-z0-9+/]+={0,2})$/.exec(signature) ?? []
      : []
    if (base64 === undefined) throw this.#session.malformed('without a signature')
    return new Uint8Array(Buffer.from(base64, 'base64'))
  }

  async remove (location: string, signal: AbortSignal): Promise<void> {
    const path = this.#pathOf(location)
    const allowed = await this.#session.ask('POST', `${path}/config`, signal, { deletion_allowed: true })
    if (allowed.status >= 400 && await this.#isGone(location, signal)) return
    succeeded(allowed, 'let a key be removed')
    const removed = await this.#session.ask('DELETE', path, signal)
    if (removed.status >= 400 && !await this.#isGone(location, signal)) succeeded(removed, 'remove a key')
  }

  async [Symbol.asyncDispose] (): Promise<void> { await this.#session[Symbol.asyncDispose]() }

  async #isGone (location: string, signal: AbortSignal): Promise<boolean> {
    return (await this.#session.ask('GET', this.#pathOf(location), signal)).status === 404
  }

  #pathOf (name: string): string { return `${this.#engine}/keys/${encodeURIComponent(name)}` }
}

function succeeded (answer: VaultAnswer, what: string): VaultAnswer {
  if (answer.status < 300) return answer
  throw new SpiffeError('key_service_refused', `vault does not ${what}: ${describeAnswer(answer)}; is the transit engine at that path?`)
}

function gone (location: string): SpiffeError {
  return new SpiffeError('key_service_key_gone', `vault has no key ${location} any more`)
}
