import { z } from 'zod'
import type { UpstreamPlugin } from '../upstream-plugin.ts'
import { DiskUpstream } from './disk-upstream.ts'
import { readUpstreamFiles } from './read-upstream-files.ts'

const path = z.string().min(1, 'must not be empty')
const schema = z.strictObject({ cert_file_path: path, key_file_path: path, bundle_file_path: path.optional() })

/** A CA in PEM files (spire-surface §7.4). Files that are of no use keep the server from starting. */
export const diskUpstreamPlugin: UpstreamPlugin<z.output<typeof schema>> = {
  name: 'disk',
  config: schema,
  async start ({ cert_file_path: certificate, key_file_path: key, bundle_file_path: bundle }, host) {
    const files = { certificate, key, bundle }
    await readUpstreamFiles(files)
    return new DiskUpstream(files, host)
  }
}
