import { createHash } from 'node:crypto'
import { isIP } from 'node:net'
import { SpiffeError } from '../spiffe/errors.ts'
import type { ControlGroup } from './control-group.ts'

/** Whose connections are redirected. */
export type RedirectScope =
  /** All of a network namespace other than this process's own; a path such as `/run/netns/blue`. */
  | { readonly kind: 'netns', readonly path: string }
  /** What a user's processes connect to on this host; never user 0. */
  | { readonly kind: 'uid', readonly uid: number }
  /** What the processes of a control group connect to on this host, groups below it included. */
  | { readonly kind: 'cgroup', readonly group: ControlGroup }

export interface RedirectPlan {
  readonly scope: RedirectScope
  /** TCP port on which the proxy takes what the scope connects to; on loopback, of IPv4 and of IPv6. */
  readonly outboundPort: number
  /** TCP port on which the proxy takes what others connect to in a namespace; absent: that is left alone. For `netns` only. */
  readonly inboundPort?: number | undefined
  /** Left alone for others to connect to: where the proxies of other nodes connect. For `netns` only. */
  readonly tunnelPort?: number | undefined
  /** TCP ports that are left alone, whoever connects. */
  readonly excludePorts: readonly number[]
  /** As `parseCidr` gives them: what is connected to, and from where others connect, is left alone. */
  readonly excludeCidrs: readonly Cidr[]
}

export interface Cidr { readonly family: 4 | 6, readonly text: string }

export const defaultPorts = { outbound: 15_001, inbound: 15_006, tunnel: 15_008 } as const

/** What the proxy marks its own packets with (SO_MARK): they are never redirected. */
export const proxyMark = 1_337

/**
 * Conntrack zone of what the proxy connects to itself. The kernel decides once per connection, and knows it by addresses and ports: where
 * the proxy had called somebody from a port, a process that got the same port for the same address would be taken for it, and be let past.
 */
export const proxyZone = 1_337

/** @throws {SpiffeError} `argument_invalid`, naming the rule that was broken */
export function checkPlan (plan: RedirectPlan): void {
  const { scope, outboundPort, inboundPort, tunnelPort, excludePorts } = plan
  checkScope(scope)
  for (const port of [outboundPort, inboundPort, tunnelPort, ...excludePorts]) if (port !== undefined) checkPort(port)
  const own = [outboundPort, inboundPort, tunnelPort].filter(port => port !== undefined)
  if (new Set(own).size < own.length) throw invalid(`the proxy's ports ${own.join(', ')} must differ`)
  if (scope.kind !== 'netns' && (inboundPort !== undefined || tunnelPort !== undefined)) {
    throw invalid('what others connect to is redirected in a namespace only')
  }
}

/** @throws {SpiffeError} `argument_invalid` */
export function checkScope (scope: RedirectScope): void {
  if (scope.kind === 'netns' && !/^\/[^\p{Cc}]+$/u.test(scope.path)) throw invalid('a namespace is named by an absolute path')
  if (scope.kind !== 'uid') return
  const { uid } = scope
  // User 0 runs the agent, the proxy and the node's own services.
  if (!Number.isInteger(uid) || uid < 1 || uid >= 0xffff_ffff) throw invalid(`user ${uid}: must be 1 to 4294967294`)
}

/**
 * Reads an address range. Bits beyond the prefix are passed over.
 * @param text `10.0.0.0/8`, `fd00::/8`, or an address alone
 * @throws {SpiffeError} `argument_invalid`
 */
export function parseCidr (text: string): Cidr {
  const [, address = '', prefix] = /^([0-9a-fA-F:.]+)(?:\/(\d{1,3}))?$/.exec(text) ?? []
  const family = isIP(address)
  const longest = family === 4 ? 32 : 128
  if ((family !== 4 && family !== 6) || Number(prefix ?? longest) > longest) {
    throw invalid(`${JSON.stringify(text.slice(0, 64))} is no address range such as 10.0.0.0/8`)
  }
  return { family, text: `${address.toLowerCase()}/${Number(prefix ?? longest)}` }
}

/** Letters, digits and `_`, at most 13; one per scope and place. */
export function scopeId (scope: RedirectScope): string {
  // Each namespace has tables of its own.
  if (scope.kind === 'netns') return 'netns'
  if (scope.kind === 'uid') return `u${scope.uid}`
  return `c${createHash('sha256').update(scope.group.path).digest('hex').slice(0, 12)}`
}

/** For people, in at most 100 characters. */
export function describeScope (scope: RedirectScope): string {
  if (scope.kind === 'netns') return 'namespace'
  if (scope.kind === 'uid') return `uid ${scope.uid}`
  const { path } = scope.group
  return `cgroup ${path.length > 90 ? `${path.slice(0, 87)}...` : path}`
}

function checkPort (port: number): void {
  if (!Number.isInteger(port) || port < 1 || port > 65_535) throw invalid(`port ${port}: must be 1 to 65535`)
}

function invalid (message: string): SpiffeError { return new SpiffeError('argument_invalid', message) }
