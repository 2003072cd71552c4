import { createPublicKey, generateKeyPairSync, type KeyObject } from 'node:crypto'
import type { KeyService } from '../../src/keys/remote/key-service.ts'
import { SpiffeError } from '../../src/spiffe/errors.ts'
import { signDigest } from './sign-digest.ts'

/** A key service in this process, P-256 alone, that can be taken away. */
export class FakeKeyService implements KeyService {
  readonly name = 'fake'
  readonly keys = new Map<string, KeyObject>()
  /** Signatures that were asked for. */
  signed = 0
  state: 'well' | 'away' | 'hangs' = 'well'

  async create (name: string) {
    await this.#pass()
    const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
    this.keys.set(name, privateKey)
    return { location: name, publicKey: await this.publicKeyOf(name) }
  }

  async publicKeyOf (location: string): Promise<Uint8Array> {
    await this.#pass()
    return new Uint8Array(createPublicKey(this.#keyAt(location)).export({ format: 'der', type: 'spki' }))
  }

  async sign (location: string, _type: unknown, digest: Uint8Array): Promise<Uint8Array> {
    this.signed++
    await this.#pass()
    return signDigest(this.#keyAt(location), digest)
  }

  async remove (location: string): Promise<void> {
    await this.#pass()
    this.keys.delete(location)
  }

  async [Symbol.asyncDispose] (): Promise<void> {}

  async #pass (): Promise<void> {
    if (this.state === 'hangs') await new Promise(() => {})
    if (this.state === 'away') throw new SpiffeError('key_service_unreachable', 'taken away')
  }

  #keyAt (location: string): KeyObject {
    const key = this.keys.get(location)
    if (key === undefined) throw new SpiffeError('key_service_key_gone', `no ${location}`)
    return key
  }
}
