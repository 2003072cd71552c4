import { SpiffeError } from '../spiffe/errors.ts'
import { pluginBlocks } from './plugin-blocks.ts'
import type { Plugin } from './plugin.ts'

/** Plugin types (SPIRE's names, e.g. `KeyManager`) and what a plugin of each type gives. */
export type PluginApis<Apis> = { readonly [Type in keyof Apis]: AsyncDisposable }

/** The plugins there are. */
export type Catalog<Apis extends PluginApis<Apis>, Host> = { readonly [Type in keyof Apis]: PluginType<Apis[Type], Host> }

export interface PluginType<Api extends AsyncDisposable, Host> {
  /** Whether a configuration may name several, and whether it must name one: `any` is none, one or several. */
  readonly use: 'one' | 'several' | 'one_or_none' | 'any'
  /** The first is used, with its defaults, where a configuration names none of those it must have. */
  readonly plugins: readonly Plugin<Api, unknown, Host>[]
  /** Names of plugins that others have, and why they are refused here: what comes after the name in the message. */
  readonly refused?: Readonly<Record<string, string>>
}

/** What a configuration chose per type, in the catalog's order. */
export type ConfiguredPlugins<Apis> = { readonly [Type in keyof Apis]: readonly ConfiguredPlugin[] }

export interface ConfiguredPlugin {
  readonly name: string
  /** As the plugin's `config` has read it. */
  readonly config: unknown
}

export interface StartedPlugins<Apis> extends AsyncDisposable {
  all<Type extends keyof Apis> (type: Type): readonly Apis[Type][]
  /** For types of which a configuration may name one. */
  only<Type extends keyof Apis> (type: Type): Apis[Type]
}

/** Reads the section `plugins`, per type; nothing is started. */
export function pluginSchemas<Apis extends PluginApis<Apis>, Host> (catalog: Catalog<Apis, Host>) {
  type Schemas = { [Type in keyof Apis]: ReturnType<typeof typeSchema> }
  const types = Object.entries<PluginType<AsyncDisposable, Host>>(catalog)
  return Object.fromEntries(types.map(([name, type]) => [name, typeSchema(type)])) as Schemas
}

function typeSchema<Host> ({ use, plugins, refused = {} }: PluginType<AsyncDisposable, Host>) {
  const blocks = pluginBlocks(Object.fromEntries(plugins.map(({ name, config }) => [name, config])), refused)
  return blocks.transform((blocks, context): readonly ConfiguredPlugin[] => {
    const chosen = plugins.filter(({ name }) => Object.hasOwn(blocks, name)).map(({ name }) => ({ name, config: blocks[name] }))
    if (use !== 'several' && use !== 'any' && chosen.length > 1) {
      context.addIssue(`must name one of ${plugins.map(({ name }) => name).join(', ')}`)
    }
    const [first] = plugins
    if (chosen.length > 0 || first === undefined || use === 'one_or_none' || use === 'any') return chosen
    return [{ name: first.name, config: first.config.parse({}) }]
  })
}

/**
 * Starts one after the other, in the catalog's order; disposing closes them in reverse, and so does a failed start.
 * @throws {SpiffeError} what the plugin refused with, the plugin named
 */
export async function startPlugins<Apis extends PluginApis<Apis>, Host> (
  catalog: Catalog<Apis, Host>, configured: ConfiguredPlugins<Apis>, host: Host, signal: AbortSignal
): Promise<StartedPlugins<Apis>> {
  await using scope = new AsyncDisposableStack()
  const started = new Map<keyof Apis, AsyncDisposable[]>()
  for (const type of Object.keys(catalog) as (keyof Apis & string)[]) {
    const apis: AsyncDisposable[] = []
    started.set(type, apis)
    for (const { name, config } of configured[type]) {
      signal.throwIfAborted()
      const plugin = catalog[type].plugins.find(plugin => plugin.name === name)
      if (plugin === undefined) throw new TypeError(`no plugin ${type} "${name}"`)
      apis.push(scope.use(await naming(`${type} "${name}"`, plugin.start(config, host, signal))))
    }
  }
  const open = scope.move()
  const all = <Type extends keyof Apis>(type: Type) => started.get(type) as unknown as readonly Apis[Type][]
  return {
    all,
    only (type) {
      const [api, ...others] = all(type)
      if (api === undefined || others.length > 0) throw new TypeError(`not one plugin of type ${String(type)}`)
      return api
    },
    [Symbol.asyncDispose]: () => open.disposeAsync()
  }
}

async function naming<T> (plugin: string, start: Promise<T>): Promise<T> {
  try {
    return await start
  } catch (error) {
    if (!(error instanceof SpiffeError)) throw error
    const { code, message, requirement, details } = error
    throw new SpiffeError(code, `${plugin}: ${message}`, { cause: error, requirement, details })
  }
}
