import { isIPv4, isIPv6 } from 'node:net'
import { SpiffeError } from './errors.ts'

/** Where a Workload API listens. An IPv6 host comes without brackets. */
export type EndpointAddress =
  | { readonly kind: 'unix', readonly path: string }
  | { readonly kind: 'tcp', readonly host: string, readonly port: number }

/** What the kernel's `sockaddr_un` holds beside its final zero. */
const maxSocketPathBytes = 107

/**
 * The path of the socket of another agent on this machine.
 * @throws {SpiffeError} `endpoint_malformed`, also for a port: anybody could answer there
 */
export function parseAgentSocket (text: string): string {
  const address = parseEndpointAddress(text)
  if (address.kind === 'unix') return address.path
  throw new SpiffeError(
    'endpoint_malformed', 'must be a Unix socket, such as unix:///run/other-agent/api.sock: anybody could answer at a port'
  )
}

/**
 * Reads a socket URI (Workload Endpoint §4). By hand: `URL` repairs what must be refused (TS-02).
 * @param text `unix:///path`, `unix:/path`, `tcp://ip:port` or `tcp://[ip]:port`; no percent escapes (AMB-22)
 * @throws {SpiffeError} `endpoint_malformed`, with the number of the broken requirement
 */
export function parseEndpointAddress (text: string): EndpointAddress {
  // A scheme may be written in either case (RFC 3986 §3.1).
  const [scheme] = /^[a-z]+:/i.exec(text) ?? ['']
  switch (scheme.toLowerCase()) {
    case 'unix:': return { kind: 'unix', path: readPath(text.slice(scheme.length), text) }
    case 'tcp:': return readTcp(text.slice(scheme.length), text)
    default: throw malformed('WLE-08', 'the scheme is neither unix nor tcp', text)
  }
}

function readPath (rest: string, text: string): string {
  if (/[?#]/.test(rest)) throw malformed('WLE-09', 'has a query or a fragment', text)
  if (rest.includes('%')) throw malformed('AMB-22', 'has a percent escape', text)
  const hasAuthority = rest.startsWith('//')
  if (hasAuthority && rest[2] !== '/') throw malformed('WLE-09', rest.length === 2 ? 'the path is missing' : 'has an authority', text)
  const path = hasAuthority ? rest.slice(2) : rest
  if (!path.startsWith('/')) throw malformed('WLE-09', 'the path is not absolute', text)
  if (!/^[A-Za-z0-9._~!$&'()*+,;=:@/-]+$/.test(path)) throw malformed('WLE-08', 'the path has a character that no URI has', text)
  if (path.length > maxSocketPathBytes) throw malformed('WLE-09', `the path is longer than ${maxSocketPathBytes} bytes`, text)
  return path
}

function readTcp (rest: string, text: string): EndpointAddress {
  const match = /^\/\/(?:\[([0-9A-Fa-f:.]+)\]|([0-9.]+)):([1-9][0-9]{0,4})$/.exec(rest)
  const [, ipv6, ipv4, port] = match ?? []
  if (Number(port) <= 65535) {
    if (ipv6 !== undefined && isIPv6(ipv6)) return { kind: 'tcp', host: ipv6, port: Number(port) }
    if (ipv4 !== undefined && isIPv4(ipv4)) return { kind: 'tcp', host: ipv4, port: Number(port) }
  }
  throw malformed('WLE-10', 'not an IP address and a port, and nothing else', text)
}

function malformed (requirement: string, rule: string, text: string): SpiffeError {
  const shown = JSON.stringify(text.length > 200 ? `${text.slice(0, 200)}…` : text)
  return new SpiffeError('endpoint_malformed', `invalid endpoint address ${shown}: ${rule}`, { requirement })
}
