/** What a command line came to, without what differs from run to run. */
export interface Told {
  readonly words: string
  readonly code: number
  /** Rows of pretty output, or one row with JSON. */
  readonly stdout: readonly string[]
  /** Whether standard error says something that begins as SPIRE's refusals do. */
  readonly refused: boolean
  /** What of standard error spire-surface §5 quotes, and with it binds. */
  readonly said?: readonly string[]
}

/** By command. */
const quoted: ReadonlyArray<readonly [command: string, words: RegExp]> = [
  ['healthcheck', /^Error: server is unhealthy: unable to determine health$/m], ['entry', /at least one selector is required/],
  ['entry', /a parent ID is required if the node flag is not set/], ['entry', /a SPIFFE ID is required/],
  ['agent', /a SPIFFE ID is required/],
  ['entry', /^Failed to create the following entry \(code: \w+, msg: "/m], ['entry', /^Failed to delete entry with ID \S+/m]
]

export function tell (words: string, { code, stdout, stderr }: { code: number, stdout: string, stderr: string }): Told {
  const said = quoted.flatMap(([command, pattern]) => words.startsWith(command) ? pattern.exec(stderr)?.[0] ?? [] : [])
  return { words, code, stdout: rowsOf(stdout), refused: code !== 0 && stderr !== '', ...said.length === 0 ? {} : { said } }
}

/** What is made anew each time, in rows for people. */
const volatile: ReadonlyArray<readonly [RegExp, string]> = [
  [/-----BEGIN ([A-Z ]+)-----[^-]*-----END \1-----\n?/g, 'PEM $1\n'],
  [/\b[\w-]+\.[\w-]+\.[\w-]{20,}/g, 'JWT'],
  [/[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}/g, 'UUID'],
  [/\b[0-9a-f]{40}\b/g, 'HEX'],
  [/(Serial number\s+: |Serial Number: )\S+/g, '$1SERIAL'],
  [/(Authority ID: )[\w-]+/g, '$1AUTHORITY'],
  [/(SERIALNUMBER=)\d+/g, '$1SERIAL'],
  [/"(exp|iat)":\d+/g, '"$1":…'],
  [/(Received \d+ svids? after )\S+/g, '$1TIME'],
  [/(Uptime:?\s+)\S+/g, '$1UPTIME'],
  [/\b(?:19|20)\d\d-\d\d-\d\d[ T]\d\d:\d\d:\d\d(?:\.\d+)?(?: [+-]\d{4} \w+|Z)?/g, 'TIME'],
  [/"(x|y|n|kid|sequence|spiffe_sequence)": (?:"[^"]*"|\d+)/g, '"$1": …'],
  [/"x5c": \[[^\]]*\]/g, '"x5c": …'],
  [/\/tmp\/[\w./-]*spire-parity-\w+/g, '$FOLDER']
]

/** JWK Sets are printed as they came: with or without white space, which says nothing. */
function withPlainKeys (text: string): string {
  return text.replace(/^\t(\{[^]*?\}\]\}|\{[^]*?^\})$/gm, (_, keys: string) => JSON.stringify(shapeOf(JSON.parse(keys))))
}

function rowsOf (text: string): readonly string[] {
  if (text.startsWith('{') && !text.startsWith('{\n') || text.startsWith('[')) return [JSON.stringify(shapeOf(JSON.parse(text)))]
  const fixed = volatile.reduce((text, [pattern, by]) => text.replace(pattern, by), withPlainKeys(text))
  return fixed.split('\n').map(row => row.trimEnd()).filter(row => row !== '')
}

/** Values that are made anew are told by their type alone. */
const named = new Set([
  'x', 'y', 'n', 'kid',
  'asn1', 'authority_id', 'created_at', 'expires_at', 'key_id', 'private_key', 'public_key', 'sequence_number', 'token', 'uptime', 'value',
  'x509_svid', 'x509_svid_key', 'bundle', 'svid', 'exp', 'iat', 'last_sync_success', 'x509svid_expires_at', 'x509svid_serial_number',
  'root_cas', 'issued_at', 'cert_chain', 'version', 'agent_version'
])

function shapeOf (value: unknown, name = '', path = ''): unknown {
  if (Array.isArray(value)) return value.map(member => shapeOf(member, name, path))
  if (typeof value === 'object' && value !== null) {
    const members = Object.entries(value).toSorted(([a], [b]) => a < b ? -1 : 1)
    return Object.fromEntries(members.map(([key, member]) => [key, shapeOf(member, key, name)]))
  }
  if (name === 'value' && path === 'selectors') return value
  if (name.startsWith('spiffe://') && typeof value === 'string') return shapeOf(JSON.parse(Buffer.from(value, 'base64').toString()))
  if (name === 'message' && value !== 'OK') return typeof value
  return named.has(name) || (path === 'svid_chain' && name !== 'id') ? typeof value : withoutUuid(value)
}

function withoutUuid (value: unknown): unknown {
  return typeof value === 'string' ? value.replace(/[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}/, 'UUID') : value
}
