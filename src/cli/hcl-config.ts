import type { ConfigSource } from '../runtime/config-file.ts'
import { parseHcl } from '../runtime/hcl-text.ts'

/** Files that have the names of SPIRE's HCL are read as HCL; JSON is written into such files too. */
export function orHcl (source: ConfigSource): ConfigSource {
  const { file } = source
  if (file === undefined || !/\.(?:conf|hcl)$/.test(file.name) || file.text.trimStart().startsWith('{')) return source
  return { ...source, file: { ...file, parse: parseHcl } }
}
