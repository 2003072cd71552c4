import { parseHcl } from '../../runtime/hcl-text.ts'
import { parseYaml } from '../../runtime/yaml-text.ts'
import type { Manifest } from './manifest.ts'
import { listOf, recordOf, textOf, type Raw } from './raw-fields.ts'

/** What a ConfigMap says of how a server runs, ours or SPIRE's. */
export interface ServerConfigMap {
  readonly manifest: Manifest
  /** `unknown` where a variable decides. */
  readonly database: 'embedded' | 'shared' | 'unknown'
  readonly trustDomain: string
  readonly hasBundleEndpoint: boolean
  /** By `federation.federates_with`. */
  readonly partners: readonly string[]
}

const maxLength = 1_048_576

/** @returns nothing for what is no ConfigMap with a server's configuration */
export function serverConfigMap (manifest: Manifest): ServerConfigMap | undefined {
  if (manifest.kind !== 'ConfigMap') return undefined
  for (const [name, text] of Object.entries(recordOf(manifest.body['data']))) {
    if (typeof text !== 'string' || text.length > maxLength) continue
    const config = recordOf(valueOf(name, text))
    const server = firstBlock(config['server'])
    // An agent's configuration has no such block, and other software no trust domain in it.
    if (textOf(server['trust_domain']) === '') continue
    const federation = firstBlock(server['federation'])
    return {
      manifest,
      database: databaseOf(config, server),
      trustDomain: textOf(server['trust_domain']),
      hasBundleEndpoint: federation['bundle_endpoint'] !== undefined,
      partners: namesIn(federation['federates_with'])
    }
  }
  return undefined
}

function valueOf (name: string, text: string): unknown {
  for (const parse of /\.(conf|hcl)$/.test(name) ? [parseHcl, parseYaml] : [parseYaml, parseHcl]) {
    const documents = parse(name, text)
    if (!('problems' in documents) && Object.keys(recordOf(documents[0]?.raw)).length > 0) return documents[0]?.raw
  }
  return undefined
}

function databaseOf (config: Raw, server: Raw): ServerConfigMap['database'] {
  const store = firstBlock(firstBlock(config['plugins'])['DataStore'])
  const data = firstBlock(firstBlock(store['sql'])['plugin_data'])
  const kind = textOf(data['database_type'])
  const address = textOf(server['datastore_url'])
  if (address.includes('$') || kind.includes('$')) return 'unknown'
  if (/^postgres(ql)?:/.test(address) || (kind !== '' && kind !== 'sqlite3')) return 'shared'
  return 'embedded'
}

/** HCL's blocks are lists of maps, those of YAML and JSON may be either. */
function firstBlock (value: unknown): Raw { return recordOf(Array.isArray(value) ? listOf(value)[0] : value) }

/** A map by names, a list of maps of one name each, or a list of names. */
function namesIn (value: unknown): readonly string[] {
  if (!Array.isArray(value)) return Object.keys(recordOf(value))
  return value.flatMap(one => typeof one === 'string' ? [one] : Object.keys(recordOf(one)))
}
