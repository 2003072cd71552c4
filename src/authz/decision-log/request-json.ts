import { parseSpiffeId, type SpiffeId } from '../../spiffe/spiffe-id.ts'
import type { AuthzRequest, HttpFacts } from '../policy/request.ts'

/** A request as it stands in decision logs. What is `undefined` in the request is missing here. */
export interface RequestJson {
  readonly source: {
    readonly id?: string | undefined, readonly invalidId?: string | undefined
    readonly address?: string | undefined, readonly remoteAddress?: string | undefined
  }
  readonly destination: { readonly id?: string | undefined, readonly address?: string | undefined, readonly port?: number | undefined }
  readonly http?: HttpJson | undefined
  readonly tls?: { readonly version?: string | undefined, readonly sni?: string | undefined } | undefined
  /** ISO 8601. */
  readonly time: string
}

export interface HttpJson {
  readonly method: string
  readonly path: string
  readonly host: string
  readonly headers: Readonly<Record<string, string>>
  readonly claims?: Readonly<Record<string, unknown>> | undefined
  readonly severalTokens?: boolean | undefined
}

/** A copy of the outermost levels: headers, `http` and the rest may be changed; claims are the request's own. */
export function requestJson ({ source, destination, http, tls, time }: AuthzRequest): RequestJson {
  return {
    source: { ...source },
    destination: { ...destination },
    http: http === undefined ? undefined : { ...http, headers: Object.fromEntries(http.headers) },
    tls: tls === undefined ? undefined : { ...tls },
    time: time.toISOString()
  }
}

/**
 * Reads what `requestJson` wrote, and refuses the rest: a replay of something else would prove nothing.
 * @returns `undefined` for what is no request
 */
export function parseRequestJson (raw: unknown): AuthzRequest | undefined {
  if (!isMap(raw) || !isMap(raw['source']) || !isMap(raw['destination']) || typeof raw['time'] !== 'string') return undefined
  const { source, destination, tls } = raw as { source: Fields, destination: Fields, tls?: Fields }
  const http = raw['http'] === undefined ? undefined : httpOf(raw['http'])
  const time = new Date(raw['time'])
  const { port } = destination
  const isPort = port === undefined || (Number.isInteger(port) && (port as number) > 0 && (port as number) <= 65_535)
  const texts = [source['invalidId'], source['address'], source['remoteAddress'], destination['address']]
  if (http === null || !isPort || Number.isNaN(time.getTime()) || !texts.every(isTextOrMissing)) return undefined
  if (tls !== undefined && !(isMap(tls) && isTextOrMissing(tls['version']) && isTextOrMissing(tls['sni']))) return undefined
  const from = idOf(source['id'])
  const to = idOf(destination['id'])
  if (from === null || to === null) return undefined
  return {
    source: { ...source, id: from }, destination: { ...destination, id: to }, http, tls, time
  }
}

type Fields = Readonly<Record<string, unknown>>

/** `null`: it is none. */
function httpOf (raw: unknown): HttpFacts | null {
  if (!isMap(raw)) return null
  const { method, path, host, headers = {}, claims, severalTokens } = raw
  if (typeof method !== 'string' || typeof path !== 'string' || typeof host !== 'string' || !isMap(headers)) return null
  if ((claims !== undefined && !isMap(claims)) || (severalTokens !== undefined && typeof severalTokens !== 'boolean')) return null
  const values = Object.entries(headers)
  if (!values.every(([, value]) => typeof value === 'string')) return null
  return { method, path, host, headers: new Map(values as [string, string][]), claims, severalTokens }
}

function idOf (raw: unknown): SpiffeId | undefined | null {
  if (raw === undefined) return undefined
  if (typeof raw !== 'string') return null
  try {
    return parseSpiffeId(raw)
  } catch {
    return null
  }
}

function isMap (value: unknown): value is Fields { return typeof value === 'object' && value !== null && !Array.isArray(value) }
function isTextOrMissing (value: unknown): boolean { return value === undefined || typeof value === 'string' }
