import { z } from 'zod'
import { SpiffeError } from '../../spiffe/errors.ts'

export type HeaderValue = readonly [name: string, value: string]

/** What somebody else decided about an HTTP request, in no protocol's words. */
export interface ExternalDecision {
  readonly allowed: boolean
  /** Allowed: for the request on its way to the workload. Denied: of the answer to the caller. Names in lower case. */
  readonly headers: readonly HeaderValue[]
  /** Allowed only: taken from the request. */
  readonly removeRequestHeaders: readonly string[]
  /** Allowed only: put into the workload's answer. */
  readonly addResponseHeaders: readonly HeaderValue[]
  /** Denied only. */
  readonly body: string | undefined
  /** Denied only; `undefined`: the asker's usual. */
  readonly httpStatus: number | undefined
  /** For filters behind and access logs. */
  readonly dynamicMetadata: Readonly<Record<string, unknown>> | undefined
}

const maxHeaders = 100
const headerName = z.string().regex(/^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}$/).transform(name => name.toLowerCase())
  // Envoy does not let anybody change what a request goes by.
  .refine(name => name !== 'host' && name !== 'content-length' && name !== 'transfer-encoding', 'a header that cannot be changed')
const headerValue = z.string().max(8192).regex(/^[^\0\r\n]*$/)
const headerMap = z.record(headerName, z.union([headerValue, z.array(headerValue).max(maxHeaders)]))
const headers = z.union([headerMap.transform(map => [map]), z.array(headerMap).max(maxHeaders)])
  .transform(maps => maps.flatMap(map => Object.entries(map).flatMap(([name, value]) => [value].flat().map((one): HeaderValue => [name,
    one]))))
  .refine(list => list.length <= maxHeaders, `more than ${maxHeaders} headers`)
const schema = z.object({
  allowed: z.boolean(),
  headers: headers.default([]),
  response_headers_to_add: headers.default([]),
  request_headers_to_remove: z.array(headerName).max(maxHeaders).default([]),
  body: z.string().max(64 * 1024).optional(),
  http_status: z.int().min(200).max(599).optional(),
  dynamic_metadata: z.record(z.string(), z.unknown()).optional(),
  query_parameters_to_set: z.undefined('not offered').optional(),
  query_parameters_to_remove: z.undefined('not offered').optional()
})

/**
 * Reads what a policy for OPA's Envoy plugin decides: a boolean, or an object with `allowed` and what is to be done besides. Members with
 * other
 * names, such as a reason for logs, say nothing here.
 * @param result of the entrypoint; `undefined`: it is not defined
 * @throws {SpiffeError} `rego_evaluation_failed` for anything else: nothing is decided, so that nobody may be let in
 */
export function readEnvoyResult (result: unknown): ExternalDecision {
  if (result === undefined) throw new SpiffeError('rego_evaluation_failed', 'the decision is undefined: give it a default')
  if (typeof result === 'boolean') return { ...bare, allowed: result }
  const parsed = schema.safeParse(result)
  if (!parsed.success) {
    const [issue] = parsed.error.issues
    const where = issue === undefined || issue.path.length === 0 ? '' : ` at ${issue.path.join('.')}`
    throw new SpiffeError('rego_evaluation_failed', `the decision is neither a boolean nor an object as OPA's Envoy plugin has it${where}`,
      { cause: parsed.error })
  }
  const { allowed, headers, body, http_status: status, dynamic_metadata: dynamicMetadata } = parsed.data
  if (!allowed) return { ...bare, headers, body, httpStatus: status, dynamicMetadata }
  return {
    ...bare, allowed, headers, dynamicMetadata,
    removeRequestHeaders: parsed.data.request_headers_to_remove, addResponseHeaders: parsed.data.response_headers_to_add
  }
}

const bare: ExternalDecision = {
  allowed: false, headers: [], removeRequestHeaders: [], addResponseHeaders: [], body: undefined, httpStatus: undefined,
  dynamicMetadata: undefined
}
