import { z } from 'zod'

/**
 * What a configuration says of one plugin type: `<name>: {plugin_data: {…}}`, or SPIRE's JSON form, a list of maps of one name each.
 * The value has the `plugin_data` of each plugin that is named.
 * @param pluginData per known name what reads its `plugin_data`; where there is none, it is given an empty map
 */
export function pluginBlocks<Shape extends Record<string, z.ZodType>> (pluginData: Shape) {
  type Blocks = { [Name in keyof Shape]: z.ZodOptional<z.ZodType<z.output<Shape[Name]>>> }
  const blocks = Object.entries(pluginData).map(([name, data]) => [name, pluginBlock(data).optional()])
  return z.preprocess(flattenList, z.strictObject(Object.fromEntries(blocks) as Blocks)).prefault({})
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

function flattenList (raw: unknown, context: z.RefinementCtx): unknown {
  if (!Array.isArray(raw)) return raw ?? {}
  const blocks = new Map<string, unknown>()
  for (const [index, item] of raw.entries()) {
    const refuse = (message: string) => context.addIssue({ code: 'custom', path: [index], message })
    const [entry, ...others] = typeof item === 'object' && item !== null && !Array.isArray(item) ? Object.entries(item as object) : []
    if (entry === undefined || others.length > 0) refuse('must be a map of one plugin')
    else if (blocks.has(entry[0])) refuse(`names ${entry[0]} again`)
    else blocks.set(...entry)
  }
  return Object.fromEntries(blocks)
}
