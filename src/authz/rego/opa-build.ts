import { execFile } from 'node:child_process'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { SpiffeError } from '../../spiffe/errors.ts'

export interface OpaBuild {
  /** The program `opa`; `undefined`: there is none here. */
  readonly opaPath?: string | undefined
  /** Paths that will be asked for, such as `envoy/authz/allow`. */
  readonly entrypoints: readonly string[]
  /** Of one file of Rego instead of a folder or a bundle. */
  readonly isFile?: boolean
  /** Rego as it was before OPA 1.0. */
  readonly isOld?: boolean
}

const timeoutMs = 120_000

/**
 * Compiles a folder of Rego and data, or a bundle without WebAssembly, to a bundle with WebAssembly, which only `opa` itself can.
 * @throws {SpiffeError} `rego_bundle_invalid`, with what `opa` said, or with the command to run where there is no `opa`
 */
export async function buildBundle (
  folder: string, { opaPath, entrypoints, isFile = false, isOld = false }: OpaBuild, signal: AbortSignal
): Promise<Uint8Array> {
  const words = (output: string) => [
    'build', '-t', 'wasm', ...isOld ? ['--v0-compatible'] : [], ...entrypoints.flatMap(path => ['-e', path]),
    ...isFile ? [] : ['-b'], folder, '-o', output
  ]
  if (entrypoints.length === 0) {
    throw new SpiffeError('rego_bundle_invalid', `${folder} holds Rego, and no entrypoints say what to build of it`)
  }
  if (opaPath === undefined) {
    const command = `opa ${words('bundle.tar.gz').map(quote).join(' ')}`
    throw new SpiffeError('rego_bundle_invalid',
      `${folder} holds Rego, which only opa compiles: name an opa, or run \`${command}\` and give the bundle`)
  }
  const scratch = await mkdtemp(join(tmpdir(), 'assay-rego-'))
  try {
    const output = join(scratch, 'bundle.tar.gz')
    await promisify(execFile)(opaPath, words(output), { signal, timeout: timeoutMs, maxBuffer: 1024 * 1024, env: { HOME: scratch } })
    return await readFile(output)
  } catch (error) {
    const { stderr = '', message } = error as { readonly stderr?: string, readonly message: string }
    throw new SpiffeError('rego_bundle_invalid', `opa cannot build ${folder}: ${(stderr.trim() || message).slice(0, 2000)}`,
      { cause: error })
  } finally {
    await rm(scratch, { recursive: true, force: true })
  }
}

function quote (word: string): string { return /^[\w./:@-]+$/.test(word) ? word : `'${word.replaceAll('\'', String.raw`'\''`)}'` }
