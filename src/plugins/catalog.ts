import { nearestWord } from '../runtime/nearest-word.ts'
import { SpiffeError } from '../spiffe/errors.ts'
import type { Plugin } from './plugin.ts'

/** Plugin types (SPIRE's names, e.g. `KeyManager`) and what a plugin of each type gives. */
export type PluginApis<Apis> = { readonly [Type in keyof Apis]: AsyncDisposable }

/** The plugins there are, per type. */
export type Catalog<Apis extends PluginApis<Apis>, Host> = {
  readonly [Type in keyof Apis]: readonly Plugin<Apis[Type], unknown, Host>[]
}

/** Plugins that a configuration names, each with its configuration read; in the configuration's order. */
export interface ConfiguredPlugins<Apis extends PluginApis<Apis>, Host> {
  readonly types: readonly (keyof Apis & string)[]
  readonly plugins: readonly ConfiguredPlugin<Host>[]
}

interface ConfiguredPlugin<Host> {
  readonly type: string
  readonly name: string
  readonly start: (host: Host, signal: AbortSignal) => Promise<AsyncDisposable>
}

export interface StartedPlugins<Apis extends PluginApis<Apis>> extends AsyncDisposable {
  /** By name, in the configuration's order. */
  of<Type extends keyof Apis> (type: Type): ReadonlyMap<string, Apis[Type]>
}

/**
 * Reads the section `plugins`: `{<type>: {<name>: {plugin_data: {…}}}}`, where a type may also hold a list of maps of one name each, as
 * SPIRE's JSON has it. Nothing is started.
 * @throws {SpiffeError} `config_invalid`, one line per problem, each beginning with the key at fault
 */
export function configurePlugins<Apis extends PluginApis<Apis>, Host> (
  catalog: Catalog<Apis, Host>, section: unknown
): ConfiguredPlugins<Apis, Host> {
  const problems: string[] = []
  const types = Object.keys(catalog) as (keyof Apis & string)[]
  const plugins: ConfiguredPlugin<Host>[] = []
  for (const [type, blocks] of mapEntries(section ?? {}, 'plugins', problems)) {
    const key = `plugins.${type}`
    const known = types.find(candidate => candidate === type)
    if (known === undefined) {
      problems.push(`${key}: unknown plugin type${suggestion(type, types)}`)
      continue
    }
    const seen = new Set<string>()
    for (const [name, block] of blockEntries(blocks ?? {}, key, problems)) {
      if (seen.has(name)) problems.push(`${key}.${name}: the same plugin twice`)
      seen.add(name)
      const plugin = catalog[known].find(candidate => candidate.name === name)
      if (plugin === undefined) problems.push(`${key}.${name}: unknown plugin${suggestion(name, catalog[known].map(({ name }) => name))}`)
      else plugins.push(...configure(plugin, type, block, problems))
    }
  }
  if (problems.length > 0) throw new SpiffeError('config_invalid', problems.join('\n'), { details: { problems } })
  return { types, plugins }
}

/**
 * Starts one after the other; disposing closes them in reverse, and so does a failed start.
 * @throws {SpiffeError} what the plugin refused with, the plugin named
 */
export async function startPlugins<Apis extends PluginApis<Apis>, Host> (
  { types, plugins }: ConfiguredPlugins<Apis, Host>, host: Host, signal: AbortSignal
): Promise<StartedPlugins<Apis>> {
  await using scope = new AsyncDisposableStack()
  const started = new Map<keyof Apis, Map<string, AsyncDisposable>>(types.map(type => [type, new Map<string, AsyncDisposable>()]))
  for (const { type, name, start } of plugins) {
    signal.throwIfAborted()
    try {
      started.get(type as keyof Apis)?.set(name, scope.use(await start(host, signal)))
    } catch (error) {
      if (!(error instanceof SpiffeError)) throw error
      const { code, message, requirement, details } = error
      throw new SpiffeError(code, `${type} "${name}": ${message}`, { cause: error, requirement, details })
    }
  }
  const open = scope.move()
  return {
    of: <Type extends keyof Apis>(type: Type) => started.get(type) as unknown as ReadonlyMap<string, Apis[Type]>,
    [Symbol.asyncDispose]: () => open.disposeAsync()
  }
}

function configure<Host> (
  plugin: Plugin<AsyncDisposable, unknown, Host>, type: string, block: unknown, problems: string[]
): ConfiguredPlugin<Host>[] {
  const key = `plugins.${type}.${plugin.name}`
  const members = new Map(mapEntries(block ?? {}, key, problems))
  for (const member of members.keys()) if (member !== 'plugin_data') problems.push(`${key}.${member}: ${unknownMember(member)}`)
  try {
    const config = plugin.parseConfig(members.get('plugin_data'))
    return [{ type, name: plugin.name, start: (host, signal) => plugin.start(config, host, signal) }]
  } catch (error) {
    if (!(error instanceof SpiffeError) || error.code !== 'config_invalid') throw error
    problems.push(...error.message.split('\n').map(line => `${key}.plugin_data${line.includes(': ') ? '.' : ': '}${line}`))
    return []
  }
}

function unknownMember (member: string): string {
  if (member === 'plugin_cmd') return 'external plugins are not offered'
  return `unknown key${suggestion(member, ['plugin_data'])}`
}

function blockEntries (blocks: unknown, key: string, problems: string[]): [string, unknown][] {
  if (!Array.isArray(blocks)) return mapEntries(blocks, key, problems)
  return blocks.flatMap((item: unknown, index) => {
    const entries = mapEntries(item, `${key}[${index}]`, problems)
    if (entries.length > 1) problems.push(`${key}[${index}]: must name one plugin`)
    return entries
  })
}

function mapEntries (value: unknown, key: string, problems: string[]): [string, unknown][] {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return Object.entries(value)
  problems.push(`${key}: must be a map`)
  return []
}

function suggestion (word: string, candidates: readonly string[]): string {
  const nearest = nearestWord(word, candidates)
  return nearest === undefined ? `; known here: ${candidates.join(', ')}` : `; did you mean ${nearest}?`
}
