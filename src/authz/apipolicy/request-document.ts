/**
 * A decoded request as SPIRE's policies see it: names with underscores, bytes in base64, numbers as numbers, and nothing of what has its
 * default value.
 * @returns `null` for no request
 */
export function requestDocument (request: unknown): unknown { return request === undefined ? null : documentOf(request) }

function documentOf (value: unknown): unknown {
  if (typeof value === 'bigint') return Number(value)
  if (value instanceof Uint8Array) return Buffer.from(value).toString('base64')
  if (Array.isArray(value)) return value.map(documentOf)
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(Object.entries(value).flatMap(([name, member]) =>
    isDefault(member) ? [] : [[name.replaceAll(/[A-Z]/g, letter => `_${letter.toLowerCase()}`), documentOf(member)]]))
}

function isDefault (value: unknown): boolean {
  if (value === undefined || value === null || value === false || value === '' || value === 0 || value === 0n) return true
  return (Array.isArray(value) || value instanceof Uint8Array) && value.length === 0
}
