import { randomBytes } from 'node:crypto'
import { resolve } from 'node:path'
import { z } from 'zod'
import type { Plugin } from '../../plugins/plugin.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import { KernelKeys, KernelKeysRefused } from './kernel-keys.ts'
import { openBytes, sealBytes, sealingKeyBytes } from './seal-bytes.ts'
import type { Sealing } from './sealing.ts'

const description = z.string().regex(/^[\x21-\x7e]{1,255}$/, 'must be 1 to 255 visible ASCII characters')
const configSchema = z.strictObject({ description: description.optional() })

/**
 * Seals with a key that only the kernel's memory holds, in the keyring of the agent's user: what lies on the disk is worthless by itself,
 * and for the agent too once the machine has restarted. The key is made when something is sealed for the first time. Whoever runs as the
 * same user, or as root, can read it.
 */
export const keyringSealingPlugin: Plugin<Sealing & AsyncDisposable, z.output<typeof configSchema>, { readonly dataDir: string }> = {
  name: 'keyring',
  config: configSchema,
  start: async ({ description }, { dataDir }) => {
    try {
      return new KeyringSealing(new KernelKeys(), description ?? `assay:agent-cache:${resolve(dataDir)}`)
    } catch (error) {
      throw unusable(error)
    }
  }
}

class KeyringSealing implements Sealing, AsyncDisposable {
  readonly name = 'keyring'
  readonly #keys: KernelKeys
  readonly #description: string
  #key: Uint8Array | undefined

  constructor (keys: KernelKeys, description: string) {
    this.#keys = keys
    this.#description = description
  }

  async seal (bytes: Uint8Array, context: string): Promise<Uint8Array> {
    return sealBytes(this.#key ??= this.#read() ?? this.#make(), bytes, context)
  }

  async open (sealed: Uint8Array, context: string): Promise<Uint8Array> {
    const key = this.#key ??= this.#read()
    if (key !== undefined) return openBytes(key, sealed, context)
    const why = 'the machine was restarted, or the user is another'
    throw new SpiffeError('cache_unusable', `the kernel has no key ${this.#description} (any more): ${why}`)
  }

  /** `undefined` when there is none, or one of the wrong size. */
  #read (): Uint8Array | undefined {
    try {
      const key = this.#keys.read(this.#description, sealingKeyBytes + 1)
      return key?.length === sealingKeyBytes ? key : undefined
    } catch (error) {
      throw unusable(error)
    }
  }

  #make (): Uint8Array {
    const key = randomBytes(sealingKeyBytes)
    try {
      this.#keys.write(this.#description, key)
    } catch (error) {
      throw unusable(error)
    }
    return key
  }

  async [Symbol.asyncDispose] (): Promise<void> {}
}

function unusable (error: unknown): unknown {
  return error instanceof KernelKeysRefused ? new SpiffeError('keyring_unusable', error.message, { cause: error }) : error
}
