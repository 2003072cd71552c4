import { z } from 'zod'

/**
 * A map of blocks by label, or SPIRE's JSON form of it: a list of maps of one block each, which may itself be in a list. A label that comes
 * twice is refused, as one of them would be lost.
 * @param blocks a schema per label that there is; or one for all labels, which `parse` reads
 */
export function labelledBlocks<Shape extends Record<string, z.ZodType>> (blocks: Shape):
z.ZodType<{ readonly [Label in keyof Shape]?: z.output<Shape[Label]> }>
export function labelledBlocks<Block extends z.ZodType> (
  blocks: Block, parse: (label: string) => string
): z.ZodType<Readonly<Record<string, z.output<Block>>>>
export function labelledBlocks (blocks: Record<string, z.ZodType> | z.ZodType, parse?: (label: string) => string): z.ZodType {
  if (parse !== undefined) {
    const read = (raw: unknown, context: z.RefinementCtx) => checkLabels(flatten(raw, context), parse, context)
    return z.preprocess(read, z.record(z.string(), z.preprocess(single, blocks as z.ZodType)))
  }
  const shape = Object.entries(blocks as Record<string, z.ZodType>)
    .map(([label, schema]) => [label, z.preprocess(single, schema).optional()])
  return z.preprocess(flatten, z.strictObject(Object.fromEntries(shape) as Record<string, z.ZodType>))
}

function checkLabels (blocks: unknown, parse: (label: string) => string, context: z.RefinementCtx): unknown {
  for (const label of typeof blocks === 'object' && blocks !== null ? Object.keys(blocks) : []) {
    try {
      parse(label)
    } catch (error) {
      context.addIssue({ code: 'custom', path: [label], message: (error as Error).message })
    }
  }
  return blocks
}

function single (raw: unknown): unknown { return Array.isArray(raw) && raw.length === 1 ? raw[0] : raw }

function flatten (raw: unknown, context: z.RefinementCtx): unknown {
  if (!Array.isArray(raw)) return raw
  const found = new Map<string, unknown>()
  for (const [index, item] of raw.entries()) {
    const entries = typeof item === 'object' && item !== null && !Array.isArray(item) ? Object.entries(item as object) : []
    if (entries.length === 0) context.addIssue({ code: 'custom', path: [index], message: 'must be a map of one block' })
    for (const [label, block] of entries) {
      if (found.has(label)) context.addIssue({ code: 'custom', path: [index], message: `names ${label} again` })
      found.set(label, block)
    }
  }
  return Object.fromEntries(found)
}
