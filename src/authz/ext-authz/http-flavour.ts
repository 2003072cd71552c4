import type { IncomingMessage } from 'node:http'
import { isIP } from 'node:net'
import type { HttpAnswer } from '../data-api/data-api.ts'
import type { Decided, Decider } from '../decider.ts'
import { callerOf, idOfPrincipal } from '../policy/principal.ts'
import { parsedTarget } from './input-document.ts'

/**
 * Headers that Envoy writes over whatever its caller sent (`authorization_request.headers_to_add`, see docs/ext-authz.md). Whoever can
 * reach this listener besides Envoy could write them too: it belongs on a Unix socket of Envoy's.
 */
const sourceHeader = 'x-assay-source'
const sourceAddressHeader = 'x-assay-source-address'
const destinationHeader = 'x-assay-destination'
const portHeader = 'x-assay-destination-port'

/** Envoy's external authorization as an HTTP service: the original request without its body, answered by 200 or a refusal. */
export async function answerHttpCheck (
  decider: Decider, { method = '', url = '', headers }: IncomingMessage, time: Date
): Promise<HttpAnswer> {
  const one = (name: string) => { const value = headers[name]; return Array.isArray(value) ? undefined : value }
  const [caller, destination] = [callerOf(one(sourceHeader)), idOfPrincipal(one(destinationHeader))]
  const { id: source } = caller
  const [address, port, { host = '' }] = [addressOf(one(sourceAddressHeader)), portOf(one(portHeader)), headers]
  const passed = Object.entries(headers).flatMap(([name, value]): Array<[string, string]> =>
    value === undefined || name.startsWith('x-assay-') ? [] : [[name, [value].flat().join(',')]])
  return answerTo(await decider.decide({
    source: { ...caller, address },
    destination: { id: destination, port },
    http: { method, path: url, host, headers: new Map(passed) },
    tls: { version: undefined, sni: undefined },
    time
  }, one('x-request-id'), () => ({
    attributes: {
      source: {
        ...source === undefined ? {} : { principal: source }, ...address === undefined ? {} : { address: { socketAddress: { address } } }
      },
      destination: destination === undefined ? {} : { principal: destination },
      request: { http: { method, path: url, host, headers: Object.fromEntries(passed) } }
    },
    ...parsedTarget(url),
    parsed_body: null,
    truncated_body: false,
    version: { encoding: 'protojson', ext_authz: 'v3' }
  })))
}

/** Which of its headers go on to the workload or the caller is Envoy's to say (`authorization_response`). */
function answerTo ({ allowed, verdict }: Decided): HttpAnswer {
  const contentType = 'text/plain'
  if (!allowed) {
    return { status: verdict?.httpStatus ?? 403, body: verdict?.body ?? 'denied by policy\n', contentType, headers: verdict?.headers }
  }
  const removed = verdict?.headersToRemove ?? []
  return { status: 200, body: '', contentType, headers: [
    ...verdict?.headers ?? [], ...verdict?.responseHeaders ?? [],
    ...removed.length === 0 ? [] : [['x-envoy-auth-headers-to-remove', removed.join(',')] as const]
  ] }
}

function portOf (text: string | undefined): number | undefined {
  return text !== undefined && /^\d{1,5}$/.test(text) ? Number(text) : undefined
}

/** `undefined`, which no rule by addresses lets in: nothing was told, or nothing that is one. */
function addressOf (text: string | undefined): string | undefined { return text !== undefined && isIP(text) !== 0 ? text : undefined }
