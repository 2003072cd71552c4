import { SpiffeError } from '../../spiffe/errors.ts'
import { isJsonObject, parseStrictJsonObject, type JsonObject, type JsonValue } from '../../spiffe/strict-json.ts'
import { formatJson } from '../json-output.ts'
import { formatRows, formatUnixSeconds, printable } from '../pretty.ts'

export interface TokenFacts {
  /** Maps, since their keys are data: no field names to be turned to snake case. */
  readonly header: ReadonlyMap<string, unknown>
  readonly claims: ReadonlyMap<string, unknown>
}

/** What a JWT says. The signature is left out: with it, the output would be a usable token. @throws {SpiffeError} `jwt_svid_malformed` */
export function tokenFacts (token: string): TokenFacts {
  const [header, payload, signature, ...more] = token.split('.')
  if (header === undefined || payload === undefined || signature === undefined || more.length > 0) {
    throw new SpiffeError('jwt_svid_malformed', 'not the compact form of three parts', { requirement: 'JWT-01' })
  }
  return { header: toMap(decodePart('header', header)), claims: toMap(decodePart('payload', payload)) }
}

export function formatTokenFacts ({ header, claims }: TokenFacts): string {
  const rows = (members: ReadonlyMap<string, unknown>) => formatRows([...members].map(([name, value]) =>
    [`  ${printable(name)}`, `${formatJson(value)}${timeNote(name, value)}`] as const), 9)
  return `Header\n${rows(header)}\nClaims\n${rows(claims)}`
}

function timeNote (name: string, value: unknown): string {
  return ['exp', 'iat', 'nbf'].includes(name) && typeof value === 'number' ? ` (${formatUnixSeconds(value)})` : ''
}

function decodePart (what: string, part: string): JsonObject {
  try {
    return parseStrictJsonObject(new Uint8Array(Buffer.from(part, 'base64url')))
  } catch (error) {
    const message = `the ${what} is not a JSON object: ${(error as Error).message}`
    throw new SpiffeError('jwt_svid_malformed', message, { cause: error, requirement: 'JWT-01' })
  }
}

function nested (value: JsonValue): unknown {
  if (Array.isArray(value)) return (value as readonly JsonValue[]).map(nested)
  return isJsonObject(value) ? toMap(value) : value
}

function toMap (object: JsonObject): ReadonlyMap<string, unknown> {
  return new Map(Object.entries(object).map(([name, value]) => [name, nested(value)]))
}
