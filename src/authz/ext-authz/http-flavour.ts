import type { IncomingMessage } from 'node:http'
import type { HttpAnswer } from '../data-api/data-api.ts'
import type { Decider } from '../decider.ts'
import { idOfPrincipal } from '../policy/principal.ts'

/**
 * Headers that Envoy writes over whatever its caller sent (`authorization_request.headers_to_add`, see docs/ext-authz.md). Whoever can
 * reach this listener besides Envoy could write them too: it belongs on a Unix socket of Envoy's.
 */
const sourceHeader = 'x-assay-source'
const destinationHeader = 'x-assay-destination'
const portHeader = 'x-assay-destination-port'

/** Envoy's external authorization as an HTTP service: the original request without its body, answered by 200 or 403. */
export async function answerHttpCheck (
  decider: Decider, { method = '', url = '', headers }: IncomingMessage, time: Date
): Promise<HttpAnswer> {
  const one = (name: string) => { const value = headers[name]; return Array.isArray(value) ? undefined : value }
  const port = one(portHeader)
  const passed = Object.entries(headers).flatMap(([name, value]): Array<[string, string]> =>
    value === undefined || name.startsWith('x-assay-') ? [] : [[name, [value].flat().join(',')]])
  const decided = await decider.decide({
    source: { id: idOfPrincipal(one(sourceHeader)) },
    destination: {
      id: idOfPrincipal(one(destinationHeader)), port: port !== undefined && /^\d{1,5}$/.test(port) ? Number(port) : undefined
    },
    http: { method, path: url, host: headers.host ?? '', headers: new Map(passed) },
    tls: { version: undefined, sni: undefined },
    time
  }, one('x-request-id'), () => ({
    attributes: { request: { http: { method, path: url, host: headers.host, headers: Object.fromEntries(passed) } } }
  }))
  return decided.allowed
    ? { status: 200, body: '', contentType: 'text/plain' }
    : { status: decided.verdict?.httpStatus ?? 403, body: decided.verdict?.body ?? 'denied by policy\n', contentType: 'text/plain' }
}
