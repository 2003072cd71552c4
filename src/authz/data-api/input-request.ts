import { z } from 'zod'
import { checkValue, formatProblems } from '../../runtime/config-file.ts'
import { parsedBy } from '../../runtime/config-schema.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import { parseSpiffeId } from '../../spiffe/spiffe-id.ts'
import { jwtFilter, verifiedTokens } from '../ext-authz/verified-tokens.ts'
import { callerOf, idOfPrincipal } from '../policy/principal.ts'
import type { AuthzRequest } from '../policy/request.ts'

const id = parsedBy(parseSpiffeId)
const port = z.int().min(1).max(65_535)

/** The short form: facts by the names that policies use. */
const short = z.strictObject({
  source: z.strictObject({ id: id.optional(), address: z.string().optional(), remoteAddress: z.string().optional() }).optional(),
  destination: z.strictObject({ id: id.optional(), address: z.string().optional(), port: port.optional() }).optional(),
  http: z.strictObject({
    method: z.string().min(1), path: z.string().min(1), host: z.string().optional(),
    headers: z.record(z.string(), z.string()).optional(), claims: z.record(z.string(), z.unknown()).optional()
  }).optional(),
  tls: z.strictObject({ version: z.string().optional(), sni: z.string().optional() }).optional(),
  time: z.iso.datetime({ offset: true }).optional()
})

const peer = z.looseObject({
  principal: z.string().optional(),
  address: z.looseObject({
    socketAddress: z.looseObject({ address: z.string().optional(), portValue: port.optional() }).optional()
  }).optional()
})

/** What Envoy sends, as OPA's plugin writes it. */
const envoys = z.looseObject({
  attributes: z.looseObject({
    source: peer.optional(),
    destination: peer.optional(),
    metadataContext: z.looseObject({ filterMetadata: z.record(z.string(), z.record(z.string(), z.unknown())).optional() }).optional(),
    tlsSession: z.looseObject({ sni: z.string().optional() }).optional(),
    request: z.looseObject({
      http: z.looseObject({
        method: z.string().optional(), path: z.string().optional(), host: z.string().optional(),
        headers: z.record(z.string(), z.string()).optional()
      }).optional()
    }).optional()
  })
})

/**
 * Reads an input document: the short form of docs/policies.md, or one with `attributes`. Who asks vouches for what it says.
 * @throws {SpiffeError} `argument_invalid`, with every problem
 */
export function requestOfInput (input: unknown, now: Date): AuthzRequest {
  return typeof input === 'object' && input !== null && 'attributes' in input
    ? ofAttributes(checked(envoys, input).attributes, now)
    : ofShort(checked(short, input ?? {}), now)
}

function ofShort ({ source = {}, destination = {}, http, tls, time }: z.output<typeof short>, now: Date): AuthzRequest {
  return {
    source,
    destination,
    http: http === undefined ? undefined : { ...http, host: http.host ?? '', headers: lowerCase(http.headers) },
    tls,
    time: time === undefined ? now : new Date(time)
  }
}

function ofAttributes (attributes: z.output<typeof envoys>['attributes'], now: Date): AuthzRequest {
  const { source, destination, request, metadataContext, tlsSession } = attributes
  const { method = '', path = '', host = '', headers } = request?.http ?? {}
  const to = destination?.address?.socketAddress
  return {
    source: { ...callerOf(source?.principal), address: source?.address?.socketAddress?.address },
    destination: { id: idOfPrincipal(destination?.principal), address: to?.address, port: to?.portValue },
    http: method === '' ? undefined : {
      method, path, host, headers: lowerCase(headers), ...verifiedTokens(metadataContext?.filterMetadata?.[jwtFilter])
    },
    tls: { version: undefined, sni: tlsSession?.sni },
    time: now
  }
}

function checked<Schema extends z.ZodType> (schema: Schema, input: unknown): z.output<Schema> {
  const reading = checkValue(schema, input, () => 'input')
  if (reading.problems === undefined) return reading.value
  throw new SpiffeError('argument_invalid', formatProblems(reading.problems))
}

function lowerCase (headers: Readonly<Record<string, string>> = {}): Map<string, string> {
  return new Map(Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value]))
}
