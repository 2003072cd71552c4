/** Values that are made anew each time are told by whether they are there. */
const madeAnew = new Set([
  'token', 'expiresAt', 'issuedAt', 'createdAt', 'keyId', 'authorityId', 'x509svidExpiresAt', 'x509svidSerialNumber', 'nextPageToken',
  'upstreamAuthoritySubjectKeyId'
])

/** An answer as JSON, without what is empty or a matter of time; bytes by their being there, selectors in one order: they are a set. */
export function shapeOf (value: unknown, name = ''): unknown {
  if (value instanceof Uint8Array) return 'bytes'
  if (Array.isArray(value)) {
    const members = value.map(member => shapeOf(member, name))
    return name === 'selectors' ? members.toSorted((a, b) => JSON.stringify(a) < JSON.stringify(b) ? -1 : 1) : members
  }
  if (typeof value === 'object' && value !== null) {
    return Object.fromEntries(Object.entries(value).flatMap(([key, member]) => isEmpty(key, member) ? [] : [[key, shapeOf(member, key)]]))
  }
  if (madeAnew.has(name)) return 'set'
  if (typeof value === 'bigint') return `${value}`
  return typeof value === 'string' ? wordsOf(value) : value
}

function isEmpty (name: string, value: unknown): boolean {
  return name === 'uptime' || value === undefined || value === '' || value === 0 || value === 0n || value === false ||
    ((Array.isArray(value) || value instanceof Uint8Array) && value.length === 0)
}

export function wordsOf (text: string): string {
  return text.replace(/[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}/g, 'UUID')
    .replace(/SERIALNUMBER=\d+/g, 'SERIALNUMBER=…').replace(/i{255}/g, 'LONG')
}
