import type { AuthzRequest, HttpFacts } from './request.ts'
import { regularHost, regularPath } from './request-path.ts'

/** What rules may ask about a request; the names are those of `when` in policy documents. */
export type Fact =
  | { readonly name: Exclude<FactName, 'header' | 'claim'> }
  | { readonly name: 'header', readonly header: string }
  /** `spaceDelimited`: a text is the list of its words, as OAuth 2.0 writes a scope. */
  | { readonly name: 'claim', readonly path: readonly string[], readonly spaceDelimited?: boolean | undefined }

export type FactName = 'source.id' | 'source.address' | 'source.remoteAddress' | 'destination.id' | 'destination.address' |
  'destination.port' | 'host' | 'authority' | 'method' | 'path' | 'header' | 'claim' | 'jwt.principal' | 'jwt.audience' | 'jwt.presenter' |
  'tls.version' | 'tls.sni' | 'time'

/** The values of a fact; none when it is known not to exist; `undefined` when nobody can know it here. */
export type FactValues = readonly string[] | undefined

/** One request's facts, each worked out once. */
export class RequestFacts {
  readonly request: AuthzRequest
  #path: FactValues | 'unread' = 'unread'
  #host: FactValues | 'unread' = 'unread'

  constructor (request: AuthzRequest) { this.request = request }

  get (fact: Fact): FactValues {
    const { source, destination, http, tls, time } = this.request
    switch (fact.name) {
      case 'source.id': return some(source.id)
      case 'source.address': return told(source.address)
      case 'source.remoteAddress': return told(source.remoteAddress ?? source.address)
      case 'destination.id': return told(destination.id)
      case 'destination.address': return told(destination.address)
      case 'destination.port': return destination.port === undefined ? undefined : [String(destination.port)]
      case 'host': return this.host
      case 'authority': return http === undefined ? undefined : [http.host.toLowerCase()]
      case 'method': return http === undefined ? undefined : [http.method]
      case 'path': return this.path
      case 'header': return http === undefined ? undefined : some(http.headers.get(fact.header))
      case 'claim': return claimed(http, claims => claimValues(claims, fact.path, fact.spaceDelimited))
      case 'jwt.principal': return claimed(http, principalOf)
      case 'jwt.audience': return claimed(http, claims => claimValues(claims, ['aud']))
      case 'jwt.presenter': return claimed(http, claims => claimValues(claims, ['azp']))
      case 'tls.version': return tls === undefined ? nothing : tls.version === undefined ? undefined : [tls.version]
      case 'tls.sni': return tls === undefined || tls.sni === '' ? nothing : tls.sni === undefined ? undefined : [tls.sni]
      default: return [time.toISOString()]
    }
  }

  get path (): FactValues {
    if (this.#path === 'unread') {
      const path = this.request.http === undefined ? undefined : regularPath(this.request.http.path)
      this.#path = path === undefined ? undefined : [path]
    }
    return this.#path
  }

  get host (): FactValues {
    if (this.#host === 'unread') this.#host = this.request.http === undefined ? undefined : [regularHost(this.request.http.host)]
    return this.#host
  }
}

const nothing: readonly string[] = []
/** What everything has, though not everybody is told. */
function told (value: string | undefined): FactValues { return value === undefined ? undefined : [value] }
function some (value: string | undefined): readonly string[] { return value === undefined ? nothing : [value] }

type Claims = HttpFacts['claims']

function claimed (http: HttpFacts | undefined, read: (claims: Claims) => readonly string[]): FactValues {
  return http === undefined || http.severalTokens === true ? undefined : read(http.claims)
}

/** Issuer and subject, as Istio writes a request's principal. */
function principalOf (claims: Claims): readonly string[] {
  const issuer = claims?.['iss']
  const subject = claims?.['sub']
  return typeof subject !== 'string' ? nothing : [`${typeof issuer === 'string' ? issuer : ''}/${subject}`]
}

/** Texts, numbers and booleans at a path of names, each member of a list. */
function claimValues (claims: Claims, path: readonly string[], words = false): readonly string[] {
  let value: unknown = claims
  for (const name of path) {
    if (typeof value !== 'object' || value === null || Array.isArray(value) || !Object.hasOwn(value, name)) return nothing
    value = (value as Record<string, unknown>)[name]
  }
  if (words && typeof value === 'string') return value.split(' ').filter(word => word !== '')
  const members: readonly unknown[] = Array.isArray(value) ? value : [value]
  return members.flatMap(member => typeof member === 'string' || typeof member === 'number' || typeof member === 'boolean'
    ? String(member) : [])
}
