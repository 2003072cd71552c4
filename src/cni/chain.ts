import { SpiffeError } from '../spiffe/errors.ts'
import { isJsonObject, type JsonObject, type JsonValue } from '../spiffe/strict-json.ts'

export const pluginType = 'assay-cni'

/** What the network's list says of the plugin: docs/mesh-kubernetes.md has the keys. */
export interface PluginEntry {
  /** Of the agent, as the node sees it. */
  readonly socketPath: string
  readonly onFailure: 'fail-closed' | 'pass'
  readonly exemptNamespaces: readonly string[]
}

/**
 * A network's list of plugins (CNI specification 1.1, §1) with ours at its end, once.
 * @returns `undefined`: it is so already
 * @throws {SpiffeError} `cni_network_unusable`
 */
export function chained (text: string, entry: PluginEntry): string | undefined {
  const { list, plugins } = readList(text)
  const others = plugins.filter(({ type }) => type !== pluginType)
  if (others.length === 0) throw unusable('has no plugin but ours, and so no network')
  const ours = { type: pluginType, ...entry }
  const last = plugins.at(-1)
  if (plugins.length === others.length + 1 && JSON.stringify(last) === JSON.stringify(ours)) return undefined
  return printed({ ...list, plugins: [...others, ours] })
}

/** Without ours. @returns `undefined`: it is not there, or the text is no list at all */
export function unchained (text: string): string | undefined {
  try {
    const { list, plugins } = readList(text)
    const others = plugins.filter(({ type }) => type !== pluginType)
    return others.length === plugins.length ? undefined : printed({ ...list, plugins: others })
  } catch (error) {
    if (error instanceof SpiffeError) return undefined
    throw error
  }
}

/** The network's name. @throws {SpiffeError} `cni_network_unusable` */
export function networkOf (text: string): string {
  const { name } = readList(text).list
  return typeof name === 'string' ? name : ''
}

function readList (text: string): { readonly list: JsonObject, readonly plugins: readonly JsonObject[] } {
  let list: JsonValue
  try {
    list = JSON.parse(text) as JsonValue
  } catch (error) {
    throw unusable(`is no JSON: ${(error as Error).message}`)
  }
  if (!isJsonObject(list)) throw unusable('is no JSON object')
  const { plugins } = list
  if (plugins === undefined && typeof list['type'] === 'string') {
    throw unusable('is a single plugin, and no list to which another could be added: make it a *.conflist')
  }
  if (!Array.isArray(plugins) || !plugins.every(isJsonObject)) throw unusable('has no list of plugins')
  return { list, plugins }
}

function printed (list: object): string { return `${JSON.stringify(list, null, 2)}\n` }

function unusable (what: string): SpiffeError {
  return new SpiffeError('cni_network_unusable', `the configuration of the network ${what}`)
}
