import { z } from 'zod'
import { notOffered, text } from '../../runtime/config-schema.ts'
import type { UpstreamPlugin } from '../upstream-plugin.ts'
import { SpireUpstream } from './spire-upstream.ts'

const portText = z.string().regex(/^\d{1,5}$/, 'must be 1 to 65535').transform(Number)
const port = z.union([z.int(), portText]).refine(value => value >= 1 && value <= 65_535, 'must be 1 to 65535')

const schema = z.strictObject({
  server_address: text,
  /** A number, or one in quotes as in SPIRE's examples. */
  server_port: port,
  workload_api_socket: text,
  experimental: z.strictObject({
    require_pq_kem: z.boolean().default(false),
    workload_api_named_pipe_name: notOffered('Windows is not supported', [''])
  }).prefault({})
})

/** A SPIRE server above, or one of ours (spire-surface §7.4). It need not be there when this server starts with a CA at hand. */
export const spireUpstreamPlugin: UpstreamPlugin<z.output<typeof schema>> = {
  name: 'spire',
  config: schema,
  async start (config, upstreamHost) {
    const { server_address: host, server_port: port, workload_api_socket: socket, experimental } = config
    return new SpireUpstream({
      address: `${host.includes(':') ? `[${host}]` : host}:${port}`, workloadApiSocket: socket.replace(/^unix:(\/\/)?(?=\/)/, ''),
      requirePqKem: experimental.require_pq_kem
    }, upstreamHost)
  }
}
