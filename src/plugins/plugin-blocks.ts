import { z } from 'zod'
import { nearestWord } from '../runtime/nearest-word.ts'
import { externalProgramSchema } from './external-program.ts'

export interface PluginBlocksOptions {
  /** Per name that is known elsewhere why it is refused. */
  readonly refused?: Readonly<Record<string, string>> | undefined
  /** Whether other names may stand for programs: blocks with a `plugin_cmd`, of which the value has an `ExternalProgram`. */
  readonly external?: boolean
}

/**
 * What a configuration says of one plugin type: `<name>: {plugin_data: {…}}`, or SPIRE's JSON form, a list of maps of one name each.
 * The value has the `plugin_data` of each plugin that is named, in the order in which they are written. A block with `enabled: false` is
 * as if it were not there.
 * @param pluginData per known name what reads its `plugin_data`; where there is none, it is given an empty map
 */
export function pluginBlocks<Shape extends Record<string, z.ZodType>> (
  pluginData: Shape, { refused = {}, external = false }: PluginBlocksOptions = {}
) {
  type Blocks = { [Name in keyof Shape]: z.ZodOptional<z.ZodType<z.output<Shape[Name]>>> }
  const blocks = Object.entries(pluginData).map(([name, data]) => [name, pluginBlock(data, external).optional()])
  const shape = Object.fromEntries(blocks) as Blocks
  const known = Object.keys(pluginData)
  const named = (raw: unknown, context: z.RefinementCtx) => withoutRefused(withoutDisabled(mapFromList(raw, context)), refused, context)
  const own = asWritten(named, z.strictObject(shape)).prefault({})
  if (!external) return own
  const all = z.object(shape).catchall(externalProgramSchema)
  return asWritten((raw, context) => withoutUnknown(named(raw, context), known, context), all).prefault({}) as unknown as typeof own
}

/** zod's maps have the order of their schema, then that of the other names. */
function asWritten<Map extends z.ZodObject> (prepare: (raw: unknown, context: z.RefinementCtx) => unknown, schema: Map) {
  // Nothing in these schemas waits for anything: between the two steps no other text is read.
  let names: readonly string[] = []
  const prepared = z.preprocess((raw, context) => {
    const blocks = prepare(raw, context)
    names = Object.keys(blocks ?? {})
    return blocks
  }, schema)
  return prepared.transform(blocks => {
    const written = names.filter(name => Object.hasOwn(blocks, name)).map(name => [name, blocks[name as keyof typeof blocks]])
    return Object.fromEntries(written) as z.output<Map>
  })
}

function withoutDisabled (raw: unknown): unknown {
  if (typeof raw !== 'object' || raw === null) return raw
  return Object.fromEntries(Object.entries(raw).filter(([, block]) => (block as { enabled?: unknown } | null)?.enabled !== false))
}

function withoutRefused (raw: unknown, refused: Readonly<Record<string, string>>, context: z.RefinementCtx): unknown {
  if (typeof raw !== 'object' || raw === null) return raw
  // A program of that name is no plugin of that name.
  const named = Object.entries(raw).filter(([name, block]) => Object.hasOwn(refused, name) && !hasCommand(block)).map(([name]) => name)
  for (const name of named) context.addIssue({ code: 'custom', path: [name], message: refused[name] as string })
  return Object.fromEntries(Object.entries(raw).filter(([name]) => !named.includes(name)))
}

/** Names that are neither ours nor a program's. */
function withoutUnknown (raw: unknown, known: readonly string[], context: z.RefinementCtx): unknown {
  if (typeof raw !== 'object' || raw === null) return raw
  const unknown = Object.entries(raw).filter(([name, block]) => !known.includes(name) && !hasCommand(block)).map(([name]) => name)
  for (const name of unknown) {
    const nearest = nearestWord(name, known)
    const hint = nearest === undefined ? `known here: ${known.join(', ')}; a program needs plugin_cmd` : `did you mean ${nearest}?`
    context.addIssue({ code: 'custom', path: [name], message: `unknown key; ${hint}` })
  }
  const programs = Object.keys(raw).filter(name => !known.includes(name) && !unknown.includes(name))
  const misnamed = programs.filter(name => !/^[A-Za-z0-9][\w.-]{0,63}$/.test(name))
  for (const name of misnamed) {
    const message = 'must be a name of 1 to 64 of A-Z a-z 0-9 . _ -: it is also the selectors\' type'
    context.addIssue({ code: 'custom', path: [name], message })
  }
  return Object.fromEntries(Object.entries(raw).filter(([name]) => !unknown.includes(name) && !misnamed.includes(name)))
}

function pluginBlock (data: z.ZodType, external: boolean) {
  const pluginData = z.preprocess(raw => raw ?? {}, data).prefault({})
  const why = external ? 'this name is a plugin of our own: give the program another name' : 'external plugins of this type are not offered'
  const withoutCommand = (raw: unknown, context: z.RefinementCtx) => {
    const block = raw ?? {}
    if (hasCommand(block)) context.addIssue({ code: 'custom', path: ['plugin_cmd'], message: why })
    return block
  }
  return z.preprocess(withoutCommand, z.strictObject({ plugin_data: pluginData, enabled: z.boolean().optional() }))
    .transform(block => block.plugin_data)
}

function hasCommand (block: unknown): boolean { return typeof block === 'object' && block !== null && 'plugin_cmd' in block }

/** SPIRE's JSON form of a map: a list of maps of one name each. */
export function mapFromList (raw: unknown, context: z.RefinementCtx): unknown {
  if (!Array.isArray(raw)) return raw ?? {}
  const blocks = new Map<string, unknown>()
  for (const [index, item] of raw.entries()) {
    const refuse = (message: string) => context.addIssue({ code: 'custom', path: [index], message })
    const [entry, ...others] = typeof item === 'object' && item !== null && !Array.isArray(item) ? Object.entries(item as object) : []
    if (entry === undefined || others.length > 0) refuse('must be a map of one name')
    else if (blocks.has(entry[0])) refuse(`names ${entry[0]} again`)
    else blocks.set(...entry)
  }
  return Object.fromEntries(blocks)
}
