import { readTextFile } from '../../plugins/text-file.ts'
import { parseHeldCa, type HeldCa, type NamedPem } from '../held-ca.ts'

export interface UpstreamFiles {
  readonly certificate: string
  readonly key: string
  /** Roots; without it the certificate is its own. */
  readonly bundle: string | undefined
}

/**
 * Reads a CA from PEM files, all of them or nothing: a file half written, or files that are not of each other, are refused.
 * @throws {SpiffeError} `file_unusable`, `upstream_invalid`; content is never quoted
 */
export async function readUpstreamFiles (files: UpstreamFiles): Promise<HeldCa> {
  const [certificate, key, bundle] = await Promise.all([
    readNamed(files.certificate), readNamed(files.key), files.bundle === undefined ? undefined : readNamed(files.bundle)
  ])
  return parseHeldCa({ certificate, key, bundle, bundleSetting: 'bundle_file_path' })
}

async function readNamed (path: string): Promise<NamedPem> { return { name: path, text: await readTextFile(path) } }
