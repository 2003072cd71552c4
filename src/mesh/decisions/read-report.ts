import { structToJson } from '../../wire/struct-json.ts'
import { nobodyRefused } from '../../authz/rbac/cel.ts'
import { callerOf, idOfPrincipal } from '../../authz/policy/principal.ts'
import type { AuthzRequest, HttpFacts } from '../../authz/policy/request.ts'
import type { Address } from '../../wire/generated/envoy-core.ts'
import type { AccessLogCommon, HTTPAccessLogEntry, TCPAccessLogEntry } from '../../wire/generated/envoy-access-log-data.ts'
import { beforePolicies, denied, rbacMetadata, refusingFilters, reportTag, verdictSuffix } from './report-form.ts'

/** What a proxy decided by the policies' filters that it has. */
export interface ReportedDecision {
  readonly request: AuthzRequest
  readonly requestId: string | undefined
  readonly allowed: boolean
  /** `<policy>/<rule>` as the proxy names it; `undefined`: no rule. */
  readonly rule: string | undefined
}

/** @returns `undefined` when no filter of the policies had a say, e.g. since the agent was asked */
export function readHttpReport ({ commonProperties: common, request }: HTTPAccessLogEntry): ReportedDecision | undefined {
  const verdict = verdictOf(structToJson(common?.metadata?.filterMetadata[rbacMetadata]))
  if (common === undefined || request === undefined || verdict === undefined) return undefined
  const { [':method']: method = '', [':path']: path = '', [':authority']: host = '', ...headers } = request.requestHeaders
  return {
    ...verdict,
    request: requestOf(common, { method, path, host, headers: new Map(Object.entries(headers)) }),
    requestId: headers['x-request-id']
  }
}

/** Of a connection the proxy tells its refusal alone. */
export function readTcpReport ({ commonProperties: common }: TCPAccessLogEntry): ReportedDecision | undefined {
  if (common === undefined || common.metadata?.filterMetadata[askedMetadata] !== undefined) return undefined
  const refusedBy = refuserOf(common)
  if (refusedBy !== undefined && isBeforePolicies.has(refusedBy)) return undefined
  return { request: requestOf(common, undefined), requestId: undefined, allowed: refusedBy === undefined, rule: named(refusedBy) }
}

/** @returns a rule's name, or `none`; `undefined`: nobody refused */
function refuserOf ({ connectionTerminationDetails, customTags }: AccessLogCommon): string | undefined {
  const [, byFirstByte] = refusal.exec(connectionTerminationDetails) ?? []
  const byHandshake = told(customTags[reportTag.verdict])
  return byFirstByte ?? (byHandshake === nobodyRefused ? undefined : byHandshake)
}

const isBeforePolicies: ReadonlySet<string> = new Set(Object.values(beforePolicies))
/** Where the agent's own answer about a connection is. */
const askedMetadata = 'envoy.filters.network.ext_authz'
const refusal = /^rbac_access_denied_matched_policy\[(.*)\]$/

function verdictOf (told: Readonly<Record<string, unknown>>): Pick<ReportedDecision, 'allowed' | 'rule'> | undefined {
  const results = refusingFilters.map(name => ({
    name, result: told[`${name}${verdictSuffix.result}`], rule: named(told[`${name}${verdictSuffix.rule}`])
  })).filter(({ result }) => result !== undefined)
  const refused = results.find(({ result }) => result === denied)
  if (refused !== undefined) return { allowed: false, rule: refused.rule }
  return results.length === 0 ? undefined : { allowed: true, rule: results.find(({ name }) => name === 'allow')?.rule }
}

/** Several rules of one name are told apart by a number in the proxy. */
function named (rule: unknown): string | undefined {
  return typeof rule !== 'string' || rule === '' || rule === 'none' ? undefined : rule.replace(/#\d+$/, '')
}

function requestOf (common: AccessLogCommon, http: HttpFacts | undefined): AuthzRequest {
  const { customTags: tags, downstreamDirectRemoteAddress: remote, downstreamLocalAddress: local, startTime, tlsProperties } = common
  const sourceAddress = told(tags[reportTag.sourceAddress]) ?? remote?.socketAddress?.address
  return {
    source: { ...callerOf(told(tags[reportTag.source])), address: sourceAddress },
    destination: { id: idOfPrincipal(told(tags[reportTag.destination])), ...addressOf(local) },
    http,
    // As of questions: no rule about the version is told to the proxy.
    tls: tlsProperties === undefined ? undefined : { version: undefined, sni: tlsProperties.tlsSniHostname },
    time: new Date(Number(startTime?.seconds ?? 0n) * 1_000 + Math.floor((startTime?.nanos ?? 0) / 1e6))
  }
}

function told (text: string | undefined): string | undefined { return text === undefined || text === '' || text === '-' ? undefined : text }

function addressOf (address: Address | undefined): AuthzRequest['destination'] {
  const { address: ip, portValue } = address?.socketAddress ?? {}
  return { address: ip, port: portValue }
}
