import { randomBytes } from 'node:crypto'
import { constants } from 'node:fs'
import { open } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import type { Plugin } from '../../plugins/plugin.ts'
import { writeFileAtomically } from '../../runtime/atomic-file.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import { openBytes, sealBytes, sealingKeyBytes } from './seal-bytes.ts'
import type { Sealing } from './sealing.ts'

const configSchema = z.strictObject({ key_path: z.string().min(1, 'must not be empty').optional() })

/**
 * Seals with a key in a file beside the data: a copy of the data without that file is worthless, a copy of both is not. The key is made
 * when something is sealed for the first time.
 */
export const fileSealingPlugin: Plugin<Sealing & AsyncDisposable, z.output<typeof configSchema>, { readonly dataDir: string }> = {
  name: 'file',
  config: configSchema,
  start: async ({ key_path: path }, { dataDir }) => new FileSealing(path ?? join(dataDir, 'agent-cache.key'))
}

class FileSealing implements Sealing, AsyncDisposable {
  readonly name = 'file'
  readonly #path: string
  #key: Uint8Array | undefined

  constructor (path: string) { this.#path = path }

  async seal (bytes: Uint8Array, context: string): Promise<Uint8Array> {
    return sealBytes(this.#key ??= await this.#read() ?? await this.#make(), bytes, context)
  }

  async open (sealed: Uint8Array, context: string): Promise<Uint8Array> {
    const key = this.#key ??= await this.#read()
    if (key === undefined) throw new SpiffeError('cache_unusable', `the key file ${this.#path} is not there any more`)
    return openBytes(key, sealed, context)
  }

  /** `undefined` when there is none, or one of the wrong size. */
  async #read (): Promise<Uint8Array | undefined> {
    try {
      await using file = await open(this.#path, constants.O_RDONLY | constants.O_NOFOLLOW)
      const { mode, uid } = await file.stat()
      if ((mode & 0o077) !== 0 || uid !== process.geteuid?.()) {
        throw new SpiffeError('file_unusable', `the key file ${this.#path} must belong to the agent's user and have mode 0600`)
      }
      const key = await file.readFile()
      return key.length === sealingKeyBytes ? key : undefined
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
      if (error instanceof SpiffeError) throw error
      throw new SpiffeError('file_unusable', `cannot read the key file ${this.#path}`, { cause: error })
    }
  }

  async #make (): Promise<Uint8Array> {
    const key = randomBytes(sealingKeyBytes)
    try {
      await writeFileAtomically(this.#path, key, { mode: 0o600 })
    } catch (error) {
      throw new SpiffeError('file_unusable', `cannot write the key file ${this.#path}`, { cause: error })
    }
    return key
  }

  async [Symbol.asyncDispose] (): Promise<void> {}
}
