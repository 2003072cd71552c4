const deepest = 32
const bareKey = /^[A-Za-z_][\w-]*$/

/**
 * Writes a map as HCL 1 that reads back as the same values: `key = value` lines. Keys that are no words, and all that HCL would take for
 * something else in a text (`${`), are escaped.
 * @param map of texts, numbers, booleans, lists and maps
 * @throws {TypeError} for anything else, naming the key
 */
export function formatHcl (map: Readonly<Record<string, unknown>>): string {
  return formatItems(map, '', '')
}

function formatItems (map: Readonly<Record<string, unknown>>, indent: string, inside: string): string {
  return Object.entries(map).map(([key, value]) => {
    const path = inside === '' ? key : `${inside}.${key}`
    return `${indent}${bareKey.test(key) ? key : formatText(key)} = ${formatValue(value, indent, path)}\n`
  }).join('')
}

function formatValue (value: unknown, indent: string, path: string): string {
  if (indent.length > deepest * 2) throw new TypeError(`${path} is nested too deeply`)
  if (typeof value === 'string') return formatText(value)
  if (typeof value === 'boolean' || (typeof value === 'number' && Number.isFinite(value))) return String(value)
  const deeper = `${indent}  `
  if (Array.isArray(value)) return `[${value.map((item, index) => formatValue(item, deeper, `${path}.${index}`)).join(', ')}]`
  if (typeof value === 'object' && value !== null) return `{\n${formatItems(value as Record<string, unknown>, deeper, path)}${indent}}`
  throw new TypeError(`${path} is no text, number, true, false, list or map`)
}

/** JSON's escapes are HCL's but for the slash, which JSON leaves as it is. */
function formatText (text: string): string {
  return JSON.stringify(text).replaceAll('\\b', '\\u0008').replaceAll('\\f', '\\u000c').replaceAll('$', '\\u0024')
}
