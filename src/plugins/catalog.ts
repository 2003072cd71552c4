import { SpiffeError } from '../spiffe/errors.ts'
import type { ExternalProgram } from './external-program.ts'
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
  /**
   * Starts a program that is a plugin of this type in SPIRE's protocol, under the name that the configuration has for it.
   * Absent where there are none here.
   */
  readonly external?: (name: string, program: ExternalProgram, host: Host, signal: AbortSignal) => Promise<Api>
}

/** What a configuration chose per type, in its order, as in SPIRE: credential composers work on what the one before made. */
export type ConfiguredPlugins<Apis> = { readonly [Type in keyof Apis]: readonly ConfiguredPlugin[] }

export interface ConfiguredPlugin {
  readonly name: string
  /** As the plugin's `config` has read it. */
  readonly config: unknown
  /** Instead: the program that it is. */
  readonly program?: ExternalProgram
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

function typeSchema<Host> ({ use, plugins, refused, external }: PluginType<AsyncDisposable, Host>) {
  const data = Object.fromEntries(plugins.map(({ name, config }) => [name, config]))
  const blocks = pluginBlocks(data, { refused, external: external !== undefined })
  return blocks.transform((blocks, context): readonly ConfiguredPlugin[] => {
    const chosen = Object.entries(blocks).map(([name, block]) => Object.hasOwn(data, name) ? { name, config: block }
      : { name, config: undefined, program: block as ExternalProgram })
    if (use !== 'several' && use !== 'any' && chosen.length > 1) {
      context.addIssue(`must name one of ${plugins.map(({ name }) => name).join(', ')}${external === undefined ? '' : ', or one program'}`)
    }
    const [first] = plugins
    if (chosen.length > 0 || first === undefined || use === 'one_or_none' || use === 'any') return chosen
    return [{ name: first.name, config: first.config.parse({}) }]
  })
}

/**
 * Starts one after the other: types in the catalog's order, those of one type in the configuration's. Disposing closes them in reverse, and
 * so does a failed start.
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
    for (const plugin of configured[type]) {
      signal.throwIfAborted()
      apis.push(scope.use(await naming(`${type} "${plugin.name}"`, startOne(catalog[type], plugin, host, signal))))
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

async function startOne<Api extends AsyncDisposable, Host> (
  { plugins, external }: PluginType<Api, Host>, { name, config, program }: ConfiguredPlugin, host: Host, signal: AbortSignal
): Promise<Api> {
  const plugin = plugins.find(plugin => plugin.name === name)
  if (program !== undefined && external !== undefined) return await external(name, program, host, signal)
  if (plugin === undefined) throw new TypeError(`no plugin "${name}"`)
  return await plugin.start(config, host, signal)
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
