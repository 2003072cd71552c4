import { readFile, rm } from 'node:fs/promises'
import type { Sealing } from '../sealing/sealing.ts'
import { removeTemporaries, writeFileAtomically } from '../../runtime/atomic-file.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import type { TrustDomain } from '../../spiffe/trust-domain.ts'
import { decodeNodeCache, encodeNodeCache, type NodeCache } from './node-cache.ts'

/** The first bytes of the file, in clear: what it is, and in which form. */
const mark = Buffer.from('assay agent cache 1\n')

/** The sealed cache in the folder of the agent's state; replaced as a whole, private to the agent's user. */
export class CacheFile {
  readonly path: string
  readonly #sealing: Sealing
  readonly #context: string

  constructor (path: string, sealing: Sealing, trustDomain: TrustDomain) {
    this.path = path
    this.#sealing = sealing
    this.#context = `${mark.toString()}${trustDomain}`
  }

  /** Clears away what a killed agent left half-written. @throws {SpiffeError} `cache_unusable`, `file_unusable` */
  async read (): Promise<NodeCache | undefined> {
    const bytes = await this.#load()
    if (bytes === undefined) return undefined
    if (!bytes.subarray(0, mark.length).equals(mark)) throw new SpiffeError('cache_unusable', 'it does not begin as a cache does')
    return decodeNodeCache(await this.#sealing.open(bytes.subarray(mark.length), this.#context))
  }

  /** @throws {SpiffeError} `file_unusable` */
  async write (cache: NodeCache): Promise<void> {
    const sealed = await this.#sealing.seal(encodeNodeCache(cache), this.#context)
    try {
      await writeFileAtomically(this.path, Buffer.concat([mark, sealed]), { mode: 0o600 })
    } catch (error) {
      throw new SpiffeError('file_unusable', `cannot write ${this.path}`, { cause: error })
    }
  }

  async remove (): Promise<void> { await rm(this.path, { force: true }) }

  async #load (): Promise<Buffer | undefined> {
    try {
      await removeTemporaries(this.path)
      return await readFile(this.path)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
      throw new SpiffeError('file_unusable', `cannot read ${this.path}`, { cause: error })
    }
  }
}
