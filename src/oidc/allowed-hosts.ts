import { checkDnsName } from '../spiffe/dns-name.ts'
import { SpiffeError } from '../spiffe/errors.ts'

/** A name under which the documents may be asked for. */
export interface AllowedDomain {
  readonly name: string
  /** Stands in URLs; absent: that of the scheme, or of the listener. */
  readonly port: number | undefined
}

/** `oidc.example.org` or `oidc.example.org:8443`; no wildcard. @throws {SpiffeError} `config_invalid` */
export function parseAllowedDomain (text: string): AllowedDomain {
  const [, name = '', port] = /^([^:]*)(?::([1-9]\d{0,4}))?$/.exec(text) ?? []
  try {
    checkDnsName(name)
  } catch (cause) {
    throw new SpiffeError('config_invalid', `must be a DNS name, or name:port: ${(cause as Error).message}`, { cause })
  }
  if (name.includes('*')) throw new SpiffeError('config_invalid', 'must be a whole DNS name: wildcards would let callers choose the issuer')
  if (Number(port ?? 0) > 65_535) throw new SpiffeError('config_invalid', 'must have a port of at most 65535')
  return { name, port: port === undefined ? undefined : Number(port) }
}

export interface HostContext {
  readonly scheme: 'https' | 'http'
  /** Where the request arrived; none for a Unix socket. */
  readonly listenerPort: number | undefined
}

const schemePorts = { https: 443, http: 80 } as const

/**
 * What stands in URLs for a Host header: `name` or `name:port`, without the scheme's own port. Letters in another case, a trailing dot
 * or a port that is neither configured nor the listener's are other hosts: the issuer would be another than the one asked for.
 * @returns `undefined` for a host that is not allowed
 */
export function allowedHost (domains: readonly AllowedDomain[], header: string, { scheme, listenerPort }: HostContext): string | undefined {
  const [, name, digits] = /^([^:]+)(?::([1-9]\d{0,4}))?$/.exec(header) ?? []
  const schemePort = schemePorts[scheme]
  const port = digits === undefined ? schemePort : Number(digits)
  const isAllowed = domains.some(domain => domain.name === name && (
    domain.port === undefined ? port === schemePort || port === listenerPort : port === domain.port
  ))
  if (!isAllowed || name === undefined) return undefined
  return port === schemePort ? name : `${name}:${port}`
}
