import { z } from 'zod'
import { SpiffeError } from '../../spiffe/errors.ts'
import { parseStrictJsonObject } from '../../spiffe/strict-json.ts'
import { rootsOverlap } from './bundle-roots.ts'

export interface BundleManifest {
  /** Empty when its builder gave none. */
  readonly revision: string
  /** What the bundle owns of `data` and of policies, without slashes at the ends; `['']`: everything. */
  readonly roots: readonly string[]
  /** Which module answers which path; modules are paths in the archive. */
  readonly wasm: ReadonlyArray<{ readonly entrypoint: string, readonly module: string }>
  readonly metadata: Readonly<Record<string, unknown>>
}

const path = z.string().max(1000).transform(text => text.replaceAll(/^\/+|\/+$/g, ''))
const schema = z.object({
  revision: z.string().max(1000).default(''),
  roots: z.array(path).max(1000).default(['']),
  wasm: z.array(z.object({ entrypoint: path, module: path })).max(1000).default([]),
  metadata: z.record(z.string(), z.unknown()).default({})
})

/**
 * Reads `.manifest` (https://www.openpolicyagent.org/docs/management-bundles). Members that say nothing here, such as `rego_version`, are
 * left out.
 * @param bytes `undefined`: the archive has none, and owns everything
 * @throws {SpiffeError} `rego_bundle_invalid`
 */
export function readManifest (bytes: Uint8Array | undefined): BundleManifest {
  if (bytes === undefined) return { revision: '', roots: [''], wasm: [], metadata: {} }
  const parsed = schema.safeParse(parseStrictJsonObject(bytes, { maxDepth: 64 }))
  if (!parsed.success) {
    const [issue] = parsed.error.issues
    throw new SpiffeError('rego_bundle_invalid', `.manifest: ${issue?.path.join('.') ?? ''}: ${issue?.message ?? ''}`)
  }
  const { roots, wasm } = parsed.data
  for (const [index, root] of roots.entries()) {
    const other = roots.slice(index + 1).find(other => rootsOverlap(root, other))
    if (other !== undefined) {
      throw new SpiffeError('rego_bundle_invalid', `.manifest: its roots ${JSON.stringify(root)} and ${JSON.stringify(other)} overlap`)
    }
  }
  const twice = wasm.find(({ entrypoint }, index) => wasm.findIndex(other => other.entrypoint === entrypoint) < index)
  if (twice !== undefined) throw new SpiffeError('rego_bundle_invalid', `.manifest: two modules answer ${twice.entrypoint}`)
  return parsed.data
}
