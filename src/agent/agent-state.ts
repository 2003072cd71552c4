import { readFile, rm } from 'node:fs/promises'
import { dirname } from 'node:path'
import { z } from 'zod'
import { removeTemporaries, writeFileAtomically } from '../runtime/atomic-file.ts'
import type { Bundle } from '../spiffe/bundle.ts'
import { formatBundleDocument, parseBundleDocument } from '../spiffe/bundle-document.ts'
import { SpiffeError } from '../spiffe/errors.ts'
import type { TrustDomain } from '../spiffe/trust-domain.ts'

/** What an agent keeps through restarts: who it is and whom it trusts. One file, so that SVID and key always fit together. */
export interface AgentState {
  /** DER, leaf first. */
  readonly chain: readonly Uint8Array[]
  /** The key of `chain`: PKCS#8, DER. Secret. */
  readonly privateKey: Uint8Array
  readonly canReattest: boolean
  readonly bundle: Bundle
  /** Of the newest cache that this agent wrote; 0 before the first. */
  readonly cacheGeneration: number
}

const fileSchema = z.strictObject({
  svid: z.array(z.base64()).min(1),
  private_key: z.base64(),
  can_reattest: z.boolean(),
  bundle: z.string(),
  cache_generation: z.int().min(0).default(0)
})

/** Where an agent's state stays while the agent does not run. */
export interface AgentStateStore {
  /** Where the cache may lie; `undefined` when nothing may be kept. */
  readonly folder: string | undefined
  /** At the start, before the first write. @throws {SpiffeError} `file_unusable`, `key_store_corrupt` */
  read (): Promise<AgentState | undefined>
  write (state: AgentState): Promise<void>
  /** After a ban or an eviction: the next start attests afresh. */
  remove (): Promise<void>
}

/** The state file in the agent's data folder; replaced as a whole, private to the agent's user. */
export class AgentStateFile implements AgentStateStore, AsyncDisposable {
  readonly folder: string
  readonly #path: string
  readonly #trustDomain: TrustDomain

  constructor (path: string, trustDomain: TrustDomain) {
    this.#path = path
    this.folder = dirname(path)
    this.#trustDomain = trustDomain
  }

  /** Clears away what a killed agent left half-written. */
  async read (): Promise<AgentState | undefined> {
    let text: string
    try {
      await removeTemporaries(this.#path)
      text = await readFile(this.#path, 'utf8')
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
      throw new SpiffeError('file_unusable', `cannot read the agent's state ${this.#path}`, { cause: error })
    }
    try {
      const { svid, private_key: privateKey, can_reattest: canReattest, bundle, cache_generation: cacheGeneration } =
        fileSchema.parse(JSON.parse(text))
      return {
        chain: svid.map(der => Buffer.from(der, 'base64')),
        privateKey: Buffer.from(privateKey, 'base64'),
        canReattest,
        bundle: parseBundleDocument(bundle, this.#trustDomain),
        cacheGeneration
      }
    } catch (error) {
      const whose = isOfSpire(text) ? 'is of SPIRE\'s agent, and is not read here' : 'cannot be read'
      throw new SpiffeError('key_store_corrupt', `the agent's state ${this.#path} ${whose}`, { cause: error })
    }
  }

  async write (state: AgentState): Promise<void> {
    const file = {
      svid: state.chain.map(der => Buffer.from(der).toString('base64')),
      private_key: Buffer.from(state.privateKey).toString('base64'),
      can_reattest: state.canReattest,
      bundle: formatBundleDocument(state.bundle),
      cache_generation: state.cacheGeneration
    }
    await writeFileAtomically(this.#path, JSON.stringify(file), { mode: 0o600 })
  }

  async remove (): Promise<void> { await rm(this.#path, { force: true }) }

  async [Symbol.asyncDispose] (): Promise<void> {}
}

/** SPIRE's agent has a file of the same name in its `data_dir`; its key lies elsewhere. */
function isOfSpire (text: string): boolean {
  return /^\s*\{/.test(text) && /"reattestable"\s*:/.test(text)
}
