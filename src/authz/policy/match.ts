import { BlockList, isIP } from 'node:net'
import type { TrustDomain } from '../../spiffe/trust-domain.ts'
import type { PathTemplate } from './path-template.ts'
import type { TimeWindow } from './time-window.ts'

/** What one value of a fact is held against. `present` is any value that is not empty. */
export type Match =
  | { readonly kind: 'exact', readonly value: string }
  | { readonly kind: 'prefix', readonly value: string }
  | { readonly kind: 'suffix', readonly value: string, readonly domains?: readonly TrustDomain[] | undefined }
  | { readonly kind: 'present', readonly domains?: readonly TrustDomain[] | undefined }
  | { readonly kind: 'workload', readonly workload: KubernetesWorkload }
  /** IDs of entries with all these selectors; `ids` once somebody who knows the entries has said which. */
  | { readonly kind: 'selected', readonly selectors: readonly string[], readonly ids?: ReadonlySet<string> | undefined }
  | { readonly kind: 'template', readonly template: PathTemplate }
  | { readonly kind: 'network', readonly network: Network }
  | { readonly kind: 'atLeast', readonly order: readonly string[], readonly value: string }
  | { readonly kind: 'window', readonly window: TimeWindow }

/** IDs of the form `/ns/NS/sa/SA`, of the trust domains named; `undefined`: of any. */
export interface KubernetesWorkload {
  readonly domains?: readonly TrustDomain[] | undefined
  readonly namespace?: Match | undefined
  readonly serviceAccount?: Match | undefined
}

export interface Network { readonly text: string, readonly addresses: BlockList }

const kubernetesId = /^spiffe:\/\/([^/]+)\/ns\/([^/]+)\/sa\/([^/]+)$/

/** Whether one value is what the match wants. A window is held against an instant in ISO 8601. */
export function matches (match: Match, value: string): boolean {
  switch (match.kind) {
    case 'exact': return value === match.value
    case 'prefix': return value.startsWith(match.value)
    case 'suffix': return value.endsWith(match.value) && isOf(match.domains, value)
    case 'present': return value !== '' && isOf(match.domains, value)
    case 'workload': return isWorkload(match.workload, value)
    case 'selected': return match.ids?.has(value) ?? false
    case 'template': return match.template.matches(value)
    case 'network': return isIn(match.network, value)
    case 'atLeast': return match.order.indexOf(value) >= match.order.indexOf(match.value)
    default: return match.window.holdsAt(new Date(value))
  }
}

function isOf (domains: readonly TrustDomain[] | undefined, id: string): boolean {
  return domains === undefined || domains.some(domain => id.startsWith(`spiffe://${domain}/`))
}

function isWorkload ({ domains, namespace, serviceAccount }: KubernetesWorkload, id: string): boolean {
  const [, domain, ns, sa] = kubernetesId.exec(id) ?? []
  return domain !== undefined && (domains === undefined || domains.includes(domain as TrustDomain)) &&
    (namespace === undefined || matches(namespace, ns ?? '')) && (serviceAccount === undefined || matches(serviceAccount, sa ?? ''))
}

/** @param address IPv4 mapped into IPv6 is of IPv4's networks */
export function isIn ({ text, addresses }: Network, address: string): boolean {
  const family = isIP(address)
  // A list takes an IPv4 address for one of ::ffff:0:0/96: ::/0 would be everybody.
  if (family === 4 && text.includes(':')) return false
  return family !== 0 && addresses.check(address, family === 4 ? 'ipv4' : 'ipv6')
}
