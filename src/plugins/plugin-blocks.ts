import { z } from 'zod'

/**
 * What a configuration says of one plugin type: `<name>: {plugin_data: {…}}`, or SPIRE's JSON form, a list of maps of one name each.
 * The value has the `plugin_data` of each plugin that is named.
 * @param pluginData per known name what reads its `plugin_data`; where there is none, it is given an empty map
 * @param refused per name that is known elsewhere why it is refused
 */
export function pluginBlocks<Shape extends Record<string, z.ZodType>> (pluginData: Shape, refused: Readonly<Record<string, string>> = {}) {
  type Blocks = { [Name in keyof Shape]: z.ZodOptional<z.ZodType<z.output<Shape[Name]>>> }
  const blocks = Object.entries(pluginData).map(([name, data]) => [name, pluginBlock(data).optional()])
  const strict = z.strictObject(Object.fromEntries(blocks) as Blocks)
  return z.preprocess((raw, context) => withoutRefused(mapFromList(raw, context), refused, context), strict).prefault({})
}

function withoutRefused (raw: unknown, refused: Readonly<Record<string, string>>, context: z.RefinementCtx): unknown {
  if (typeof raw !== 'object' || raw === null) return raw
  const named = Object.keys(raw).filter(name => Object.hasOwn(refused, name))
  for (const name of named) context.addIssue({ code: 'custom', path: [name], message: refused[name] as string })
  return Object.fromEntries(Object.entries(raw).filter(([name]) => !named.includes(name)))
}

function pluginBlock (data: z.ZodType) {
  const pluginData = z.preprocess(raw => raw ?? {}, data).prefault({})
  return z.preprocess(withoutCommand, z.strictObject({ plugin_data: pluginData })).transform(block => block.plugin_data)
}

function withoutCommand (raw: unknown, context: z.RefinementCtx): unknown {
  const block = raw ?? {}
  if (typeof block === 'object' && 'plugin_cmd' in block) {
    context.addIssue({ code: 'custom', path: ['plugin_cmd'], message: 'external plugins are not offered' })
  }
  return block
}

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
