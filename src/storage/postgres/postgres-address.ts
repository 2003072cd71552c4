import { isIP } from 'node:net'
import { userInfo } from 'node:os'
import { hostAndPort } from '../../runtime/host-and-port.ts'
import { nearestWord } from '../../runtime/nearest-word.ts'
import { SpiffeError } from '../../spiffe/errors.ts'

/** One server of several that may be the primary. */
export interface PostgresTarget {
  /** A name, an IP address without brackets, or the absolute folder of a Unix socket. */
  readonly host: string
  readonly port: number
}

/** What libpq's `sslmode` asks for; paths as they were written. Servers behind Unix sockets are never asked for TLS. */
export interface PostgresTls {
  /** `require` checks nothing; `verify-ca` the issuer; `verify-full` the issuer and the host's name. */
  readonly mode: 'require' | 'verify-ca' | 'verify-full'
  /** PEM file, or `system`: the machine's authorities. */
  readonly rootCert?: string | undefined
  /** PEM files that this client shows; both or none. */
  readonly cert?: string | undefined
  readonly key?: string | undefined
}

export interface PostgresAddress {
  /** In the order in which they are tried. At least one. */
  readonly targets: readonly PostgresTarget[]
  readonly database: string
  readonly user: string
  /** A function, so that nothing shows it by accident; `undefined` leaves it to PGPASSWORD. */
  readonly password: () => string | undefined
  readonly tls: PostgresTls | undefined
  /** Whether `sslmode` was given; a connection without TLS was asked for then. */
  readonly tlsChosen: boolean
  /** For one server. */
  readonly connectTimeoutMs: number | undefined
  readonly applicationName: string | undefined
  /** Command-line options of the session, e.g. `-c search_path=assay`. */
  readonly options: string | undefined
}

const known = [
  'host', 'port', 'dbname', 'user', 'password', 'target_session_attrs', 'sslmode', 'sslrootcert', 'sslcert', 'sslkey', 'connect_timeout',
  'application_name', 'options'
] as const
type Parameter = typeof known[number]

const defaultPort = '5432'

/**
 * Reads a PostgreSQL address as libpq writes it: `postgres://user:password@host1:5432,host2/database?sslmode=verify-full&…`, or with
 * `?host=/folder,/folder&port=…` for Unix sockets. Stricter than libpq: nothing is given twice, nothing unknown is passed over.
 * @param text of which messages repeat nothing: any part of what is miswritten could be a password
 * @throws {SpiffeError} `config_invalid`
 */
export function parsePostgresAddress (text: string): PostgresAddress {
  const parts = /^postgres(?:ql)?:\/\/(?:([^@/?#]*)@)?([^@/?#]*)(?:\/([^@/?#]*))?(?:\?([^#]*))?$/i.exec(text)
  if (parts === null || /[\s\p{Cc}]/u.test(text)) {
    throw refused('it is written postgres://user:password@host:5432/database?parameter=value, with @ / ? # and spaces in any part as %40 %2F ' +
      '%3F %23 %20')
  }
  const [, login = '', hosts = '', database = '', query] = parts
  const given = readParameters(query)
  const [user, password] = splitOnce(login, ':')
  const only = (parameter: Parameter, fromPath: string) => {
    const own = decode(fromPath)
    if (own !== '' && given.has(parameter)) throw refused(`${parameter} is given twice`)
    return own === '' ? given.get(parameter) ?? '' : own
  }
  const name = only('user', user) || systemUser()
  const secret = only('password', password ?? '') || undefined
  checkAttributes(given.get('target_session_attrs'))
  return {
    targets: readTargets(hosts, given),
    user: name,
    database: only('dbname', database) || name,
    password: () => secret,
    tls: readTls(given),
    tlsChosen: given.has('sslmode'),
    connectTimeoutMs: readTimeout(given.get('connect_timeout')),
    applicationName: given.get('application_name'),
    options: given.get('options')
  }
}

/** Where an address leads, without its password. */
export function describeAddress ({ targets, database, user }: PostgresAddress): string {
  return `PostgreSQL database ${database} at ${targets.map(describeTarget).join(', ')} as ${user}`
}

export function describeTarget ({ host, port }: PostgresTarget): string { return hostAndPort(host, port) }

function readParameters (query: string | undefined): Map<Parameter, string> {
  const given = new Map<Parameter, string>()
  for (const pair of query === undefined || query === '' ? [] : query.split('&')) {
    const [encoded, value] = splitOnce(pair, '=')
    // Without a sign it may be the rest of a password with a raw `&` or `?` in it.
    if (value === undefined) throw refused('a parameter has no value; write & within a value as %26, and ? as %3F')
    const name = decode(encoded)
    if (!isKnown(name)) throw unknownParameter(name)
    if (given.has(name)) throw refused(`${name} is given twice`)
    given.set(name, decode(value))
  }
  return given
}

function isKnown (name: string): name is Parameter { return (known as readonly string[]).includes(name) }

function unknownParameter (name: string): SpiffeError {
  const nearest = nearestWord(name, known)
  const hint = nearest === undefined ? '' : `; did you mean ${nearest}?`
  return refused(`a parameter is none of ${known.join(', ')}${hint}`)
}

function readTargets (hosts: string, given: ReadonlyMap<Parameter, string>): PostgresTarget[] {
  const listed = given.get('host')
  if (hosts !== '' && listed !== undefined) throw refused('host is given twice')
  const pairs = hosts !== '' ? hosts.split(',').map(splitAuthority) : (listed ?? '').split(',').map(host => ({ host, port: '' }))
  const ports = given.get('port')?.split(',') ?? []
  if (ports.length > 0 && pairs.some(({ port }) => port !== '')) throw refused('port is given twice')
  if (ports.length > 1 && ports.length !== pairs.length) throw refused('port must list one port for all hosts, or one for each')
  const targets = pairs.map(({ host, port }, index) => ({
    host: checkHost(host), port: readPort(port || (ports.length > 1 ? ports[index] : ports[0]) || defaultPort)
  }))
  if (new Set(targets.map(describeTarget)).size < targets.length) throw refused('a host is listed twice')
  return targets
}

/** `host`, `host:port`, `[IPv6]` or `[IPv6]:port`. */
function splitAuthority (text: string): { readonly host: string, readonly port: string } {
  const parts = /^(?:\[([^\]]*)\]|([^:[\]]*))(?::([^:]*))?$/.exec(text)
  if (parts === null) throw refused('a host is written name, name:port or [IPv6]:port')
  const [, v6, name = '', port = ''] = parts
  if (v6 !== undefined && isIP(v6) !== 6) throw refused('between brackets stands an IPv6 address')
  return { host: v6 ?? decode(name), port: decode(port) }
}

function checkHost (host: string): string {
  if (host === '') throw refused('a host is missing; the folder of a Unix socket is written ?host=/run/postgresql')
  if (host.startsWith('/')) return host
  if (isIP(host) === 0 && !/^[a-z0-9._-]{1,253}$/i.test(host)) throw refused('a host is no name, no IP address and no absolute folder')
  return host
}

function readPort (text: string): number {
  const port = /^\d{1,5}$/.test(text) ? Number(text) : 0
  if (port < 1 || port > 65_535) throw refused('a port is a number from 1 to 65535')
  return port
}

function checkAttributes (text: string | undefined): void {
  if (text !== undefined && text !== 'read-write' && text !== 'primary') {
    throw refused('target_session_attrs can be read-write or primary: a standby may lack a ban, and takes no writes')
  }
}

function readTls (given: ReadonlyMap<Parameter, string>): PostgresTls | undefined {
  const [rootCert, cert, key] = [given.get('sslrootcert'), given.get('sslcert'), given.get('sslkey')]
  if ([rootCert, cert, key].includes('')) throw refused('sslrootcert, sslcert and sslkey name files')
  // As in libpq, the machine's authorities are good for nothing less than the name: anybody has a certificate of theirs.
  const mode = given.get('sslmode') ?? (rootCert === 'system' ? 'verify-full' : undefined)
  if (mode === 'prefer' || mode === 'allow') {
    throw refused(`sslmode=${mode} is not supported: whoever sits in between could switch TLS off; use verify-full, or disable`)
  }
  if (mode === undefined || mode === 'disable') {
    if ([rootCert, cert, key].some(file => file !== undefined)) throw refused('sslrootcert, sslcert and sslkey need an sslmode with TLS')
    return undefined
  }
  if (mode !== 'require' && mode !== 'verify-ca' && mode !== 'verify-full') {
    throw refused('sslmode can be disable, require, verify-ca or verify-full')
  }
  if (mode !== 'require' && rootCert === undefined) throw refused(`sslmode=${mode} needs sslrootcert, a PEM file or system`)
  if (mode !== 'verify-full' && rootCert === 'system') throw refused('sslrootcert=system needs sslmode=verify-full')
  if ((cert === undefined) !== (key === undefined)) throw refused('sslcert and sslkey go together')
  // libpq: with a root certificate, `require` is `verify-ca`.
  return { mode: mode === 'require' && rootCert !== undefined ? 'verify-ca' : mode, rootCert, cert, key }
}

function readTimeout (text: string | undefined): number | undefined {
  if (text === undefined) return undefined
  if (!/^[1-9]\d{0,4}$/.test(text)) throw refused('connect_timeout is whole seconds, at least 1')
  return Number(text) * 1_000
}

/** As libpq: the user that runs the program. */
function systemUser (): string {
  try {
    return userInfo().username
  } catch {
    throw refused('it names no user')
  }
}

function splitOnce (text: string, sign: string): [string, string | undefined] {
  const at = text.indexOf(sign)
  return at === -1 ? [text, undefined] : [text.slice(0, at), text.slice(at + 1)]
}

function decode (text: string): string {
  let decoded = ''
  try {
    decoded = decodeURIComponent(text)
  } catch {
    throw refused('a % is followed by no two hexadecimal digits of UTF-8; write % itself as %25')
  }
  if (decoded.includes('\0')) throw refused('it holds a NUL')
  return decoded
}

function refused (rule: string): SpiffeError {
  return new SpiffeError('config_invalid', `the PostgreSQL address cannot be used: ${rule}`)
}
