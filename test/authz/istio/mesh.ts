import type { PolicySet } from '../../../src/authz/policy/policy-set.ts'
import { readPolicies } from '../../../src/authz/policy/read-policies.ts'
import type { AuthzRequest } from '../../../src/authz/policy/request.ts'
import { resolveSelectors } from '../../../src/authz/policy/resolve-selectors.ts'
import { istioDocuments, type IstioOptions } from '../../../src/authz/istio/istio-documents.ts'
import { parseSpiffeId, type SpiffeId } from '../../../src/spiffe/spiffe-id.ts'

/** A mesh `mesh.test` that was once called `old.test`, and lets all of `partner.test` be looked at. */
export const own = ['mesh.test', 'old.test']
const around = [
  { apiVersion: 'assay/v1', kind: 'Settings', trustDomain: 'mesh.test', trustDomainAliases: ['old.test'], defaultAction: 'allow' },
  { apiVersion: 'assay/v1', kind: 'FederationScope', trustDomain: 'partner.test', accept: ['spiffe://partner.test/*'] }
]

/** Namespace/account → labels of its pods. */
export const pods: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  'foo/app': { app: 'app', version: 'v1' }, 'foo/db': { app: 'db', version: 'v2' }, 'bar/app': { app: 'app', version: 'v1' }
}

export interface RawPolicy {
  readonly metadata: { readonly name: string, readonly namespace: string, readonly annotations?: Readonly<Record<string, string>> }
  readonly spec: Readonly<Record<string, any>>
}

/** @param name `namespace/name` */
export function policy (name: string, spec: object, annotations?: Readonly<Record<string, string>>): RawPolicy {
  const [namespace = '', short = ''] = name.split('/')
  const metadata = { name: short, namespace, ...annotations === undefined ? {} : { annotations } }
  return { apiVersion: 'security.istio.io/v1', kind: 'AuthorizationPolicy', metadata, spec } as RawPolicy
}

export function readMesh (policies: readonly unknown[], options?: IstioOptions): PolicySet {
  const set = readPolicies([{ name: 'mesh', text: JSON.stringify([...around, ...policies]) }], { foreign: [istioDocuments(options)] })
  return resolveSelectors(set, selectors => new Set(Object.entries(pods).filter(([name, labels]) => {
    const has = [`k8s:ns:${name.split('/')[0]}`, ...Object.entries(labels).map(([key, value]) => `k8s:pod-label:${key}:${value}`)]
    return selectors.every(selector => has.includes(selector))
  }).map(([name]) => idOf(name))))
}

export interface Ask {
  /** `namespace/account` of the mesh, or a whole ID; absent: plain text. */
  readonly from?: string
  readonly to?: string
  readonly port?: number
  readonly ip?: string
  readonly remoteIp?: string
  readonly destinationIp?: string
  readonly sni?: string
  readonly method?: string
  readonly path?: string
  readonly host?: string
  readonly headers?: Readonly<Record<string, string>>
  readonly claims?: Readonly<Record<string, unknown>>
}

/** `GET http://app.foo/` of `foo/web` to `foo/app`, port 80, unless said otherwise. */
export function http (ask: Ask = {}): AuthzRequest {
  const { method = 'GET', path = '/', host = 'app.foo', headers = {}, claims } = ask
  return { ...tcp(ask), http: { method, path, host, headers: new Map(Object.entries(headers)), ...claims === undefined ? {} : { claims } } }
}

/** From nobody known, over plain text. */
export function plainText (ask: Omit<Ask, 'from'> = {}): AuthzRequest {
  const request = http(ask)
  return { ...request, source: { ...request.source, id: undefined }, tls: undefined }
}

export function tcp (ask: Ask = {}): AuthzRequest {
  const { from = 'foo/web', to = 'foo/app', port = 80, ip = '10.0.0.1', remoteIp, destinationIp = '10.9.0.1', sni } = ask
  return {
    source: { id: idOf(from), address: ip, remoteAddress: remoteIp },
    destination: { id: idOf(to), address: destinationIp, port },
    tls: { sni: sni ?? '' },
    time: new Date('2026-06-01T12:00:00Z')
  }
}

export function idOf (name: string): SpiffeId {
  const [namespace, account] = name.split('/')
  return parseSpiffeId(name.includes('://') ? name : `spiffe://mesh.test/ns/${namespace}/sa/${account}`)
}

/** A sentence, policies, a request, the verdict with its rule or reason, and what else comes of it. */
export type Row = readonly [string, readonly RawPolicy[], AuthzRequest, string, RowMarks?]

export interface RowMarks {
  readonly audits?: readonly string[]
  /** `RULE PROVIDER`. */
  readonly asks?: readonly string[]
  /** The verdict if dry runs were obeyed. */
  readonly shadow?: string
  /** `false`: beyond the oracle of raw documents. */
  readonly rawOracle?: false
}
