/**
 * One line of JSON in the manner of protojson with proto field names, as SPIRE prints: snake case, sorted keys, `undefined` and `null`
 * dropped, 64-bit integers as strings, bytes in base64, dates in RFC 3339. Keys that are data, not names, are wrapped in a `Map`.
 */
export function formatJson (value: unknown): string {
  return JSON.stringify(plain(value))
}

function plain (value: unknown): unknown {
  if (typeof value === 'bigint') return value.toString()
  if (value instanceof Uint8Array) return Buffer.from(value).toString('base64')
  if (value instanceof Date) return value.toISOString()
  if (Array.isArray(value)) return value.map(plain)
  if (value instanceof Map) return sorted([...value as Map<string, unknown>])
  if (typeof value === 'object' && value !== null) return sorted(Object.entries(value).map(([key, member]) => [snakeCase(key), member]))
  return value
}

function sorted (entries: [string, unknown][]): Record<string, unknown> {
  const kept = entries.filter(([, value]) => value !== undefined && value !== null)
  return Object.fromEntries(kept.toSorted(([a], [b]) => a < b ? -1 : 1).map(([key, value]) => [key, plain(value)]))
}

/** `x509SvidTtl` to `x509_svid_ttl`. */
function snakeCase (name: string): string {
  return name.replace(/[A-Z]+/g, letters => `_${letters.toLowerCase()}`)
}
