import type { ConfigSource } from '../runtime/config-file.ts'
import { parseHcl } from '../runtime/hcl-text.ts'
import type { Terminal } from './terminal.ts'

/** As SPIRE has them, for configurations that were written for it. */
const spireDefaults = {
  server: { socket_path: '/tmp/spire-server/private/api.sock', log_format: 'text' },
  agent: { socket_path: '/tmp/spire-agent/public/api.sock', log_format: 'text' }
} as const

/**
 * A configuration of `server` or `agent` under SPIRE's rules where it has SPIRE's form, or is read by a program of SPIRE's name: HCL, types
 * as loose as there, and what SPIRE takes for granted.
 */
export function orSpire (source: ConfigSource, block: keyof typeof spireDefaults, { program }: Pick<Terminal, 'program'>): ConfigSource {
  const read = orHcl(source)
  if (program === 'assay' && read.file?.parse !== parseHcl) return read
  const file = read.file && { ...read.file, looselyTyped: true }
  return { ...read, file, defaults: Object.entries(spireDefaults[block]).map(([key, value]) => ({ path: [block, key], value })) }
}

/** Files that have the names of SPIRE's HCL are read as HCL; JSON is written into such files too. */
export function orHcl (source: ConfigSource): ConfigSource {
  const { file } = source
  if (file === undefined || !/\.(?:conf|hcl)$/.test(file.name) || file.text.trimStart().startsWith('{')) return source
  return { ...source, file: { ...file, parse: parseHcl } }
}
