import type { AuthzRequest } from '../policy/request.ts'
import { regularPath } from '../policy/request-path.ts'

/** What was asked for: `GET /orders` or `TCP`, and the port where it is known, ` on 8080`. The query is left out: no rule asks about it. */
export function operationOf ({ http, destination: { port } }: AuthzRequest): string {
  const at = port === undefined ? '' : ` on ${port}`
  if (http === undefined) return `TCP${at}`
  // An irregular path stays as it is: it is decided otherwise than what it seems to name.
  return `${http.method} ${regularPath(http.path) ?? http.path.split('?', 1)[0]}${at}`
}
