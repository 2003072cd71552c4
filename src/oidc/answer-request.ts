import type { ErrorCode } from '../spiffe/errors.ts'
import { allowedHost, type AllowedDomain } from './allowed-hosts.ts'
import { discoveryDocument, type Document } from './documents.ts'
import type { KeysAnswer } from './published-keys.ts'

/** What the documents say, and to whom. */
export interface DocumentsConfig {
  readonly domains: readonly AllowedDomain[]
  /** Instead of the URL of the host that was asked. */
  readonly jwtIssuer: string | undefined
  /** Instead of the URL of the keys on that host. */
  readonly jwksUri: string | undefined
  /** Before both paths; without a slash at its end, so empty for none. */
  readonly pathPrefix: string
  /** URLs begin with `http:` where there is no TLS; else with `https:`, which a proxy in front is then meant to offer. */
  readonly allowInsecureScheme: boolean
  readonly cacheMaxSeconds: number
}

/** A request as far as it matters. */
export interface Asked {
  readonly method: string
  /** As sent: nothing is decoded, and nothing but the two paths is known. */
  readonly target: string
  /** Values of each Host header line. */
  readonly hosts: readonly string[]
  /** Where only a proxy on this machine can ask, what it says of its own caller. */
  readonly forwarded?: { readonly host: string | undefined, readonly proto: string | undefined } | undefined
  readonly hasBody: boolean
  readonly ifNoneMatch: string | undefined
  readonly isTls: boolean
  readonly listenerPort: number | undefined
}

export interface Answer {
  readonly status: number
  readonly headers: Readonly<Record<string, string>>
  /** Not sent in answer to HEAD. */
  readonly body: Uint8Array
  /** For metrics and the log: few values. */
  readonly document: 'configuration' | 'keys' | 'none'
  readonly code?: ErrorCode | undefined
}

const unavailable = {
  waiting: { status: 500, message: 'document not available' },
  none: { status: 501, message: 'there are no keys' },
  stale: { status: 503, message: 'the source of the keys has been away for too long' }
} as const

/** Answers with one of the two documents, or refuses; nothing else is reachable. */
export function answerRequest (config: DocumentsConfig, readKeys: () => KeysAnswer, asked: Asked): Answer {
  const document = asked.target === `${config.pathPrefix}/keys` ? 'keys'
    : asked.target === `${config.pathPrefix}/.well-known/openid-configuration` ? 'configuration' : 'none'
  const refuse = (status: number, code: ErrorCode, message: string, headers: Record<string, string> = {}) => (
    { ...refusal(status, code, message, headers), document } as const
  )
  if (document === 'none') return refuse(404, 'oidc_request_refused', 'there is no such document')
  if (asked.method !== 'GET' && asked.method !== 'HEAD') {
    return refuse(405, 'oidc_request_refused', 'only GET and HEAD are answered', { allow: 'GET, HEAD' })
  }
  if (asked.hasBody) return refuse(400, 'oidc_request_refused', 'a request has no body')
  const scheme = asked.isTls || !config.allowInsecureScheme || asked.forwarded?.proto === 'https' ? 'https' : 'http'
  const header = asked.forwarded?.host ?? (asked.hosts.length === 1 ? asked.hosts[0] : undefined) ?? ''
  const host = allowedHost(config.domains, header, { scheme, listenerPort: asked.listenerPort })
  if (host === undefined) return refuse(400, 'oidc_host_unknown', 'the host is none of those served here')
  const vary = asked.forwarded === undefined ? {} : { vary: 'X-Forwarded-Host, X-Forwarded-Proto' }
  if (document === 'configuration') {
    const base = `${scheme}://${host}${config.pathPrefix}`
    const content = discoveryDocument(config.jwtIssuer ?? base, config.jwksUri ?? `${base}/keys`)
    return { ...serve(content, config.cacheMaxSeconds, asked.ifNoneMatch, vary), document }
  }
  const keys = readKeys()
  if (keys.kind === 'keys') return { ...serve(keys.document, keys.maxAgeSeconds, asked.ifNoneMatch, vary), document }
  const { status, message } = unavailable[keys.kind]
  return refuse(status, 'oidc_keys_unavailable', message, { 'retry-after': '10' })
}

/** A body that says the code, and that nobody keeps. */
export function refusal (
  status: number, code: ErrorCode, message: string, headers: Readonly<Record<string, string>> = {}
): Omit<Answer, 'document'> {
  const body = Buffer.from(`${JSON.stringify({ code, message })}\n`)
  return { status, code, body, headers: { ...everywhere, 'content-type': 'application/json', 'cache-control': 'no-store', ...headers } }
}

/** Public, and read by scripts of other origins too, as SPIRE lets them. */
const everywhere = { 'access-control-allow-origin': '*', 'x-content-type-options': 'nosniff' } as const

function serve (
  { body, etag }: Document, maxAgeSeconds: number, ifNoneMatch: string | undefined, more: Readonly<Record<string, string>>
): Omit<Answer, 'document'> {
  const cacheControl = maxAgeSeconds === 0 ? 'no-cache' : `public, max-age=${maxAgeSeconds}`
  const headers = { ...everywhere, etag, 'cache-control': cacheControl, ...more }
  if (ifNoneMatch !== undefined && matches(ifNoneMatch, etag)) return { status: 304, headers, body: nothing }
  return { status: 200, headers: { ...headers, 'content-type': 'application/json' }, body }
}

const nothing = new Uint8Array()

/** RFC 9110 §13.1.2: `*`, or one of a list; weak ones count. */
function matches (header: string, etag: string): boolean {
  return header.trim() === '*' || header.split(',').some(one => one.trim().replace(/^W\//, '') === etag)
}
