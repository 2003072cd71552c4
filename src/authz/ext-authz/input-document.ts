import type {
  AttributeContext, AttributeContext_HttpRequest, AttributeContext_Peer, CheckRequest
} from '../../wire/generated/envoy-authorization.ts'
import type { Address } from '../../wire/generated/envoy-core.ts'
import { structToJson } from '../../wire/struct-json.ts'

/** Of a body that is looked into. */
const longestBody = 1_048_576

/**
 * The input document that policies for OPA's Envoy plugin are written on: `attributes` as protobuf's JSON has them, and beside them
 * `parsed_path`, `parsed_query`, `parsed_body`, `truncated_body` and `version`.
 */
export function inputOf ({ attributes }: CheckRequest): Readonly<Record<string, unknown>> {
  const http = attributes?.request?.http
  return {
    attributes: attributesOf(attributes),
    ...http === undefined || http.method === '' ? {} : { ...parsedTarget(http.path), ...bodyOf(http) },
    version: { encoding: 'protojson', ext_authz: 'v3' }
  }
}

function attributesOf (attributes: AttributeContext | undefined): Record<string, unknown> {
  if (attributes === undefined) return {}
  const { source, destination, request, contextExtensions, metadataContext, routeMetadataContext, tlsSession } = attributes
  const time = request?.time
  return present({
    source: peerOf(source),
    destination: peerOf(destination),
    request: request === undefined ? undefined : present({
      time: time === undefined ? undefined : new Date(Number(time.seconds) * 1_000 + time.nanos / 1e6).toISOString(),
      http: request.http === undefined ? undefined : httpOf(request.http)
    }),
    contextExtensions: Object.keys(contextExtensions).length === 0 ? undefined : contextExtensions,
    metadataContext: metadataContext === undefined ? undefined : { filterMetadata: metadataOf(metadataContext) },
    routeMetadataContext: routeMetadataContext === undefined ? undefined : { filterMetadata: metadataOf(routeMetadataContext) },
    tlsSession: tlsSession === undefined ? undefined : present({ sni: tlsSession.sni })
  })
}

function metadataOf ({ filterMetadata }: NonNullable<AttributeContext['metadataContext']>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(filterMetadata).map(([name, struct]) => [name, structToJson(struct)]))
}

function peerOf (peer: AttributeContext_Peer | undefined): Record<string, unknown> | undefined {
  if (peer === undefined) return undefined
  const { address, service, labels, principal, certificate } = peer
  return present({
    address: addressOf(address), service, labels: Object.keys(labels).length === 0 ? undefined : labels, principal, certificate
  })
}

function addressOf (address: Address | undefined): Record<string, unknown> | undefined {
  if (address?.socketAddress !== undefined) {
    const { address: ip, portValue } = address.socketAddress
    return { socketAddress: present({ address: ip, portValue }) }
  }
  return address?.pipe === undefined ? undefined : { pipe: { path: address.pipe.path } }
}

function httpOf (http: AttributeContext_HttpRequest): Record<string, unknown> {
  const { id, method, headers, path, host, scheme, query, fragment, size, protocol, body, rawBody } = http
  return present({
    id, method, headers, path, host, scheme, query, fragment, size: String(size), protocol, body,
    rawBody: rawBody.length === 0 ? '' : Buffer.from(rawBody).toString('base64')
  })
}

/** `parsed_path` and `parsed_query` of a request's target. */
export function parsedTarget (target: string): Record<string, unknown> {
  const question = target.indexOf('?')
  const path = question < 0 ? target : target.slice(0, question)
  const query: Record<string, string[]> = Object.create(null) as Record<string, string[]>
  if (question >= 0) for (const [name, value] of new URLSearchParams(target.slice(question + 1))) (query[name] ??= []).push(value)
  return { parsed_path: path.replace(/^\//, '').split('/').map(decoded), parsed_query: query }
}

function decoded (segment: string): string {
  try {
    return decodeURIComponent(segment)
  } catch {
    return segment
  }
}

/** Of JSON alone; a body that Envoy cut short, or that is no JSON, is none. */
function bodyOf ({ headers, body, rawBody, size }: AttributeContext_HttpRequest): Record<string, unknown> {
  const text = body !== '' ? body : Buffer.from(rawBody).toString('utf8')
  const { 'content-length': stated = '' } = headers
  const contentLength = /^\d{1,15}$/.test(stated) ? stated : Buffer.byteLength(text)
  const isTruncated = size >= 0n && BigInt(Buffer.byteLength(text)) < BigInt(contentLength)
  const isJson = /^application\/json(;|$)/i.test(headers['content-type'] ?? '')
  if (!isJson || isTruncated || text === '' || text.length > longestBody) return { parsed_body: null, truncated_body: isTruncated }
  try {
    return { parsed_body: JSON.parse(text) as unknown, truncated_body: false }
  } catch {
    return { parsed_body: null, truncated_body: false }
  }
}

function present (object: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(object).filter(([, value]) => value !== undefined && value !== '' && value !== 0))
}
