import { SpiffeError } from '../../spiffe/errors.ts'
import type { JsonObject } from '../../spiffe/strict-json.ts'
import { readBundleData } from './bundle-data.ts'
import { readManifest } from './bundle-manifest.ts'
import { isCovered } from './bundle-roots.ts'
import { verifyBundle, type SignatureVerification } from './bundle-signature.ts'
import { readTarGz } from './tar-archive.ts'

export interface BundleModule {
  /** Its path in the bundle. */
  readonly path: string
  readonly module: WebAssembly.Module
  /** What the manifest sends to it. */
  readonly entrypoints: readonly string[]
}

/** A bundle of OPA, checked as far as that can be without running it. */
export interface RegoBundle {
  readonly revision: string
  readonly roots: readonly string[]
  readonly metadata: Readonly<Record<string, unknown>>
  readonly data: JsonObject
  readonly modules: readonly BundleModule[]
  /** Path → text of the policies as people wrote them; for display only. */
  readonly sources: ReadonlyMap<string, string>
}

/**
 * @param bytes a gzipped tar archive as `opa build -t wasm` writes it
 * @param verification `undefined`: signatures are not looked at
 * @throws {SpiffeError} `rego_bundle_invalid`, `rego_bundle_untrusted`
 */
export async function readBundle (bytes: Uint8Array, verification: SignatureVerification | undefined): Promise<RegoBundle> {
  const files = await readTarGz(bytes)
  // Before anything else in it is looked at.
  if (verification !== undefined) verifyBundle(files, verification)
  if (files.has('patch.json')) throw invalid('it is a delta bundle; only whole ones are taken')
  const { revision, roots, wasm, metadata } = manifestOf(files)
  const modules = await readModules(files, wasm)
  const outside = modules.flatMap(({ entrypoints }) => entrypoints).find(entrypoint => !isCovered(roots, entrypoint))
  if (outside !== undefined) throw invalid(`its roots ${JSON.stringify(roots)} do not have entrypoint ${outside} inside`)
  const sources = new Map([...files].filter(([path]) => path.endsWith('.rego')).map(([path, bytes]) => [path, bytes.toString()]))
  return { revision, roots, metadata, data: readBundleData(files, roots), modules, sources }
}

function manifestOf (files: ReadonlyMap<string, Buffer>): ReturnType<typeof readManifest> {
  try {
    return readManifest(files.get('.manifest'))
  } catch (error) {
    throw error instanceof SpiffeError && error.code === 'json_malformed' ? invalid(`.manifest: ${error.message}`, error) : error
  }
}

async function readModules (
  files: ReadonlyMap<string, Buffer>, wasm: ReadonlyArray<{ readonly entrypoint: string, readonly module: string }>
): Promise<BundleModule[]> {
  const paths = [...new Set(wasm.map(({ module }) => module))]
  if (paths.length === 0 && [...files.keys()].some(path => path.endsWith('.rego'))) {
    throw invalid('it has Rego but no policy.wasm: build it with `opa build -t wasm -e ENTRYPOINT`')
  }
  return await Promise.all(paths.map(async path => {
    const bytes = files.get(path)
    if (bytes === undefined) throw invalid(`its manifest names ${path}, which is not in it`)
    const entrypoints = wasm.filter(({ module }) => module === path).map(({ entrypoint }) => entrypoint)
    try {
      return { path, module: await WebAssembly.compile(bytes), entrypoints }
    } catch (error) {
      throw invalid(`${path} is no WebAssembly module, or a damaged one: ${(error as Error).message}`, error)
    }
  }))
}

function invalid (rule: string, cause?: unknown): SpiffeError { return new SpiffeError('rego_bundle_invalid', rule, { cause }) }
