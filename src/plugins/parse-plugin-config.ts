import type { z } from 'zod'
import { nearestWord } from '../runtime/nearest-word.ts'
import { SpiffeError } from '../spiffe/errors.ts'

/**
 * Reads a plugin's `plugin_data`; nothing there counts as an empty map.
 * @param schema should be strict, so that unknown keys are refused
 * @throws {SpiffeError} `config_invalid`, one line `key: rule` per problem; never a value, which may be a secret
 */
export function parsePluginConfig<Schema extends z.ZodObject> (schema: Schema, raw: unknown): z.output<Schema> {
  const result = schema.safeParse(raw ?? {})
  if (result.success) return result.data
  const lines = result.error.issues.flatMap(issue => problemsOf(issue, Object.keys(schema.shape)))
  throw new SpiffeError('config_invalid', lines.join('\n'), { details: { problems: lines } })
}

function problemsOf (issue: z.core.$ZodIssue, known: readonly string[]): string[] {
  const key = issue.path.join('.')
  if (issue.code !== 'unrecognized_keys') return [key === '' ? ruleOf(issue) : `${key}: ${ruleOf(issue)}`]
  return issue.keys.map(unknown => {
    const nearest = issue.path.length === 0 ? nearestWord(unknown, known) : undefined
    const name = [...issue.path, unknown].join('.')
    return nearest === undefined ? `${name}: unknown key` : `${name}: unknown key; did you mean ${nearest}?`
  })
}

/** Our own wording where zod's would start with a capital. */
function ruleOf (issue: z.core.$ZodIssue): string {
  if (issue.code === 'invalid_type' && issue.message.endsWith('received undefined')) return 'is required'
  if (issue.code === 'invalid_type' && issue.message.startsWith('Invalid input')) return `must be of type ${issue.expected}`
  return issue.message.charAt(0).toLowerCase() + issue.message.slice(1)
}
