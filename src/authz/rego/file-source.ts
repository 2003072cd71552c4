import { readdir, readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { SpiffeError } from '../../spiffe/errors.ts'
import type { BundleSource, OfferedBundle } from './bundle-source.ts'
import { buildBundle, type OpaBuild } from './opa-build.ts'
import { archiveLimits } from './tar-archive.ts'

export interface FileSourceOptions {
  /** A bundle, or a folder with Rego and data. */
  readonly path: string
  /** How a folder is built; without it, folders are refused. */
  readonly build: OpaBuild
  /** Default 2000. */
  readonly pollMs?: number | undefined
}

/** Reads a bundle again whenever its file, or some file of its folder, has another time or size. */
export class FileSource implements BundleSource {
  readonly #options: FileSourceOptions
  #seen = ''

  constructor (options: FileSourceOptions) { this.#options = options }

  nextPollMs (): number { return this.#options.pollMs ?? 2000 }

  async poll (signal: AbortSignal): Promise<OfferedBundle | undefined> {
    const { path, build } = this.#options
    const state = await this.#state()
    if (state.mark === this.#seen) return undefined
    // Also where it is refused: the same file would be refused again.
    this.#seen = state.mark
    const bytes = state.isFolder ? await buildBundle(path, build,
      signal) : await readFile(path).catch((error: unknown) => { throw unusable(path, error) })
    return { bytes, accept: async () => undefined }
  }

  async #state (): Promise<{ readonly isFolder: boolean, readonly mark: string }> {
    const { path } = this.#options
    try {
      const found = await stat(path)
      if (!found.isDirectory()) {
        if (found.size > archiveLimits.maxCompressed) {
          throw new SpiffeError('rego_bundle_invalid', `${path} is larger than ${archiveLimits.maxCompressed} bytes`)
        }
        return { isFolder: false, mark: markOf(found) }
      }
      const names = (await readdir(path, { recursive: true })).toSorted()
      if (names.length > archiveLimits.maxFiles) {
        throw new SpiffeError('rego_bundle_invalid', `${path} has more than ${archiveLimits.maxFiles} files`)
      }
      const marks = await Promise.all(names.map(async name => `${name} ${markOf(await stat(join(path, name)))}`))
      return { isFolder: true, mark: marks.join('\n') }
    } catch (error) {
      throw error instanceof SpiffeError ? error : unusable(path, error)
    }
  }
}

function markOf ({ mtimeMs, size, ino }: { readonly mtimeMs: number, readonly size: number,
  readonly ino: number }): string { return `${mtimeMs} ${size} ${ino}` }

function unusable (path: string, error: unknown): SpiffeError {
  return new SpiffeError('rego_bundle_unavailable', `${path} cannot be read: ${(error as Error).message}`, { cause: error })
}
