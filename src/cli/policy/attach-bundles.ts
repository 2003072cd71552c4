import { readFile, stat } from 'node:fs/promises'
import { dirname, resolve } from 'node:path'
import { documentsIn, kindOf } from '../../authz/policy/read-policies.ts'
import { buildBundle } from '../../authz/rego/opa-build.ts'
import { readTarGz } from '../../authz/rego/tar-archive.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import { policyLimits } from '../../spiffe/policy-version.ts'
import { reasonOf } from '../../runtime/reason-of.ts'
import type { PolicyFile } from '../../authz/policy-files/read-policy-files.ts'

export interface AttachOptions {
  /** The program `opa`; `undefined`: what is not compiled is refused. */
  readonly opaPath: string | undefined
  /** Told of each file or folder that a document names. */
  readonly onNamed?: (path: string) => void
}

/**
 * Puts what RegoBundle documents name by `file` into them: a bundle; or a folder of Rego or a bundle without `policy.wasm`, which `opa`
 * compiles. Their texts are written anew, as JSON; all others stay as they are.
 * @throws {SpiffeError} `file_unusable`, `rego_bundle_invalid` with the command to run where there is no `opa`, `policy_malformed`
 */
export async function attachBundles (
  files: readonly PolicyFile[], options: AttachOptions, signal: AbortSignal
): Promise<readonly PolicyFile[]> {
  return await Promise.all(files.map(async file => file.text.includes('RegoBundle') ? await attach(file, options, signal) : file))
}

async function attach (file: PolicyFile, options: AttachOptions, signal: AbortSignal): Promise<PolicyFile> {
  const documents = documentsIn({ name: file.path, text: file.text })
  const bundle = documents.find(({ raw }) => kindOf(raw) === 'RegoBundle' && typeof (raw as Named).file === 'string')
  if (bundle === undefined) return file
  if (documents.length > 1) {
    const rule = 'a RegoBundle that names a file must be the only document of its text'
    throw new SpiffeError('policy_malformed', `${bundle.where(['file'])}: ${rule}`)
  }
  const { file: named, ...rest } = bundle.raw as Named
  const path = resolve(dirname(file.path), named)
  options.onNamed?.(path)
  const entrypoints = Array.isArray(rest.entrypoints) ? rest.entrypoints.filter(one => typeof one === 'string') : []
  const bytes = await bundleAt(path, { ...options, entrypoints }, signal)
  if (bytes.length > policyLimits.bundleBytes) {
    throw new SpiffeError('rego_bundle_invalid', `${path} has ${bytes.length} bytes, at most ${policyLimits.bundleBytes} are allowed`)
  }
  return { ...file, text: `${JSON.stringify({ ...rest, bundle: Buffer.from(bytes).toString('base64') }, undefined, 2)}\n` }
}

interface Named { readonly file: string, readonly entrypoints?: unknown }

async function bundleAt (
  path: string, build: AttachOptions & { readonly entrypoints: readonly string[] }, signal: AbortSignal
): Promise<Uint8Array> {
  try {
    const { size, isFolder } = await stat(path).then(found => ({ size: found.size, isFolder: found.isDirectory() }))
    if (isFolder) return await buildBundle(path, build, signal)
    if (size > policyLimits.bundleBytes) {
      throw new SpiffeError('rego_bundle_invalid', `${path} has ${size} bytes, at most ${policyLimits.bundleBytes} are allowed`)
    }
    const bytes = await readFile(path)
    const names = [...(await readTarGz(bytes)).keys()]
    const isSource = !names.some(name => name.endsWith('.wasm')) && names.some(name => name.endsWith('.rego'))
    return isSource ? await buildBundle(path, build, signal) : bytes
  } catch (error) {
    if (error instanceof SpiffeError) throw error
    throw new SpiffeError('file_unusable', `cannot read ${path}: ${reasonOf(error)}`, { cause: error })
  }
}
