import { z } from 'zod'
import { parsedBy } from '../../runtime/config-schema.ts'
import { policyLimits } from '../../spiffe/policy-version.ts'
import { formatSelector, parseSelector } from '../../spiffe/selector.ts'
import { parseTrustDomain } from '../../spiffe/trust-domain.ts'
import type { Match } from './match.ts'
import { longestValue, parseDomainMatch, parseIdMatch, parsePathMatch, parseTextMatch } from './match-text.ts'
import { parseNetwork } from './network.ts'
import { TimeWindow, weekDays } from './time-window.ts'

/** Assay's own policy documents. What is not known is refused: a misspelt condition must not be one that is missing. */

export const apiVersion = 'assay/v1'

/** Of one list in a policy, and of the rules in one document. */
const most = { values: 1_000, rules: 100_000 }

function list<T extends z.ZodType> (member: T) {
  return z.array(member).min(1, 'must not be empty').max(most.values, `must not have more than ${most.values} members`)
}

const text = z.string().min(1, 'must not be empty').max(longestValue, `must not be longer than ${longestValue} characters`)
const name = z.string()
  .regex(/^[a-z0-9]([a-z0-9._-]{0,126}[a-z0-9])?$/, 'must be 1 to 128 of a-z 0-9 . - _, with a letter or digit at both ends')
const texts = list(parsedBy(parseTextMatch))
const lowerCaseTexts = list(parsedBy(value => parseTextMatch(value.toLowerCase())))
const ids = list(parsedBy(parseIdMatch))
const domains = list(parsedBy(parseDomainMatch))
const paths = list(parsedBy(parsePathMatch))
const networks = list(parsedBy((value): Match => {
  const network = parseNetwork(value)
  if (network === undefined) throw new Error('must be an IP address, or a network such as 10.0.0.0/8 with no bits below its mask')
  return { kind: 'network', network }
}))
const ports = list(z.int().min(1, 'must be 1 to 65535').max(65_535, 'must be 1 to 65535')
  .transform((port): Match => ({ kind: 'exact', value: String(port) })))
const selectors = list(parsedBy(value => formatSelector(parseSelector(value))))
const instant = z.iso.datetime({ offset: true, error: 'must be a time such as 2026-12-31T23:59:59Z' }).transform(value => new Date(value))

const longestArchive = Math.ceil(policyLimits.bundleBytes / 3) * 4

/** Which workloads; all keys together. */
const workloads = { ids: ids.optional(), notIds: ids.optional(), selectors: selectors.optional(), notSelectors: selectors.optional() }

const source = notEmpty(z.strictObject({
  ids: ids.optional(),
  notIds: ids.optional(),
  trustDomains: domains.optional(),
  notTrustDomains: domains.optional(),
  selectors: selectors.optional(),
  notSelectors: selectors.optional(),
  requestPrincipals: texts.optional(),
  notRequestPrincipals: texts.optional(),
  addresses: networks.optional(),
  notAddresses: networks.optional(),
  remoteAddresses: networks.optional(),
  notRemoteAddresses: networks.optional()
}))

const valueLists = { values: texts.optional(), notValues: texts.optional() }
const headerName = z.string().regex(/^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}$/, 'must be the name of a header')
const protoName = /^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*$/

const grpc = list(z.strictObject({
  service: z.string().max(512).regex(protoName, 'must be the full name of a gRPC service'),
  methods: list(z.string().max(256).regex(/^[A-Za-z_]\w*$/, 'must be the name of a method')).optional()
}))

const operation = notEmpty(z.strictObject({
  ...workloads,
  ports: ports.optional(),
  notPorts: ports.optional(),
  hosts: lowerCaseTexts.optional(),
  notHosts: lowerCaseTexts.optional(),
  methods: texts.optional(),
  notMethods: texts.optional(),
  paths: paths.optional(),
  notPaths: paths.optional(),
  headers: list(z.strictObject({ name: headerName, ...valueLists }).refine(hasValues, 'must have values or notValues')).optional(),
  grpc: grpc.optional(),
  notGrpc: grpc.optional()
}))

const minutes = z.string().regex(/^([01]\d|2[0-3]):[0-5]\d$|^24:00$/, 'must be a time of day such as 08:30')
  .transform(value => Number(value.slice(0, 2)) * 60 + Number(value.slice(3)))

const time = notEmpty(z.strictObject({
  notBefore: instant.optional(),
  notAfter: instant.optional(),
  days: list(z.enum(weekDays)).optional(),
  from: minutes.optional(),
  to: minutes.optional(),
  timeZone: text.optional()
})).transform(({ timeZone = 'UTC', ...spec }, context) => {
  try {
    return new TimeWindow({ ...spec, timeZone })
  } catch {
    context.addIssue({ code: 'custom', path: ['timeZone'], message: 'is no time zone such as Europe/Berlin' })
    return z.NEVER
  }
})

export const tlsVersions = ['TLSv1', 'TLSv1.1', 'TLSv1.2', 'TLSv1.3'] as const

const condition = z.strictObject({
  time: time.optional(),
  notTime: time.optional(),
  tls: notEmpty(z.strictObject({ atLeast: z.enum(tlsVersions).optional(), notAtLeast: z.enum(tlsVersions).optional() })).optional(),
  sni: z.strictObject(valueLists).refine(hasValues, 'must have values or notValues').optional(),
  claim: z.strictObject({ path: z.union([text, list(text)]), ...valueLists }).refine(hasValues, 'must have values or notValues').optional(),
  audience: z.strictObject(valueLists).refine(hasValues, 'must have values or notValues').optional(),
  presenter: z.strictObject(valueLists).refine(hasValues, 'must have values or notValues').optional()
}).refine(one => Object.values(one).filter(value => value !== undefined).length === 1, 'must have exactly one condition')

const rule = z.strictObject({
  name,
  description: text.optional(),
  action: z.enum(['allow', 'deny', 'audit', 'custom']),
  /** Of `custom`: who is asked, such as `rego/envoy/authz/allow`. */
  provider: text.optional(),
  from: list(source).optional(),
  to: list(operation).optional(),
  when: list(condition).optional()
}).refine(({ action, provider }) => (action === 'custom') === (provider !== undefined), 'provider is for the action custom, which needs it')

export const policyDocument = z.strictObject({
  apiVersion: z.literal(apiVersion),
  kind: z.literal('Policy'),
  name,
  description: text.optional(),
  /** `shadow`: only looked at, never obeyed. */
  mode: z.enum(['enforce', 'shadow']).default('enforce'),
  workloads: notEmpty(z.strictObject(workloads)).optional(),
  rules: z.array(rule).min(1, 'must not be empty').max(most.rules, `must not have more than ${most.rules} members`)
}).refine(({ rules }) => new Set(rules.map(one => one.name)).size === rules.length, 'two rules have the same name')

export const scopeDocument = z.strictObject({
  apiVersion: z.literal(apiVersion),
  kind: z.literal('FederationScope'),
  trustDomain: parsedBy(parseTrustDomain),
  description: text.optional(),
  /** Of that domain; without it they are authenticated, and refused. */
  accept: ids.optional(),
  /** Of ours; without it all. */
  workloads: ids.optional(),
  until: instant.optional()
})

const entrypoint = z.string().regex(/^[A-Za-z_][\w.-]*(\/[\w.-]+)*$/, 'must be a path such as orders/allow').max(1_000)

/** Rego for `custom` rules: `file` where people write it, `bundle` (base64) once `assay policy apply` has put the file in. */
export const bundleDocument = z.strictObject({
  apiVersion: z.literal(apiVersion),
  kind: z.literal('RegoBundle'),
  name: name.refine(value => value !== 'assay', 'must not be assay, which is what decisions call the rules'),
  description: text.optional(),
  file: text.optional(),
  bundle: z.string()
    .max(longestArchive, `must not be longer than ${longestArchive} characters, an archive of ${policyLimits.bundleBytes} bytes`)
    .refine(isBase64, 'must be base64').optional(),
  entrypoints: list(entrypoint).optional(),
  key: text.optional()
}).refine(({ file, bundle }) => (file === undefined) !== (bundle === undefined), 'must have one of file and bundle')

export const settingsDocument = z.strictObject({
  apiVersion: z.literal(apiVersion),
  kind: z.literal('Settings'),
  trustDomain: parsedBy(parseTrustDomain),
  trustDomainAliases: list(parsedBy(parseTrustDomain)).optional(),
  defaultAction: z.enum(['allow', 'deny'])
})

export type PolicyDocument = z.output<typeof policyDocument>
export type SourceDocument = z.output<typeof source>
export type OperationDocument = z.output<typeof operation>
export type ConditionDocument = z.output<typeof condition>

function isBase64 (value: string): boolean { return value !== '' && Buffer.from(value, 'base64').toString('base64') === value }

function hasValues ({ values, notValues }: { values?: unknown, notValues?: unknown }): boolean {
  return values !== undefined || notValues !== undefined
}

function notEmpty<T extends z.ZodObject> (schema: T): T {
  return schema.refine(value => Object.values(value).some(member => member !== undefined), 'must not be empty')
}
