import { parseHeldCa, type HeldCa } from '../held-ca.ts'
import { readPemFile } from '../pem-file.ts'

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
    readPemFile(files.certificate), readPemFile(files.key), files.bundle === undefined ? undefined : readPemFile(files.bundle)
  ])
  return parseHeldCa({ certificate, key, bundle, bundleSetting: 'bundle_file_path' })
}
