import { z } from 'zod'
import { parsedBy } from '../../runtime/config-schema.ts'
import { parseSpiffeId, type SpiffeId } from '../../spiffe/spiffe-id.ts'
import { apiVersion, tlsVersions } from '../policy/policy-schema.ts'

const text = z.string().min(1, 'must not be empty').max(2_048)
/** One or several: each of them is tried. */
function oneOrMore<T extends z.ZodType> (value: T) { return z.union([z.array(value).min(1, 'must not be empty').max(1_000), value]) }

const id = parsedBy((value): SpiffeId | 'none' => value === 'none' ? 'none' : parseSpiffeId(value))
const time = z.iso.datetime({ offset: true, error: 'must be a time such as 2026-12-31T23:59:59Z' }).transform(value => new Date(value))

const request = z.strictObject({
  /** `none`, or missing: a caller without an identity. */
  from: oneOrMore(id).optional(),
  address: text.optional(),
  remoteAddress: text.optional(),
  to: oneOrMore(id).optional(),
  port: oneOrMore(z.int().min(1, 'must be 1 to 65535').max(65_535, 'must be 1 to 65535')).optional(),
  method: oneOrMore(text).optional(),
  path: oneOrMore(text).optional(),
  host: text.optional(),
  headers: z.record(text, z.string().max(65_536)).optional(),
  claims: z.record(text, z.unknown()).optional(),
  tls: z.strictObject({ version: z.enum(tlsVersions).optional(), sni: z.string().optional() }).optional(),
  time: time.optional()
})

const expectation = z.strictObject({
  verdict: z.enum(['allow', 'deny']),
  /** `<policy>/<rule>`, as decisions name it. */
  rule: text.optional(),
  reason: z.enum(['rule', 'no-rule-allows', 'default', 'federation']).optional(),
  audits: z.array(text).optional(),
  /** Who is asked besides. */
  providers: z.array(text).optional(),
  /** With shadow rules obeyed. */
  shadow: z.enum(['allow', 'deny']).optional()
})

export const policyTestDocument = z.strictObject({
  apiVersion: z.literal(apiVersion),
  kind: z.literal('PolicyTest'),
  name: text,
  description: text.optional(),
  /** Of all requests that say no other; without it the time of the run. */
  time: time.optional(),
  tests: z.array(z.strictObject({ name: text, request, expect: expectation })).min(1, 'must not be empty').max(100_000)
})

export type PolicyTestDocument = z.output<typeof policyTestDocument>
export type TestRequest = z.output<typeof request>
export type Expectation = z.output<typeof expectation>
