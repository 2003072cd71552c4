import { isIPv4, isIPv6, SocketAddress } from 'node:net'

/** An address without brackets, as Node writes it. */
export interface PeerAddress { readonly address: string, readonly port: number }

/** What the first bytes of a connection say. */
export type ProxyReading =
  /** They are no header, and belong to whatever comes next. */
  | { readonly kind: 'none' }
  /** They may become one. */
  | { readonly kind: 'unfinished' }
  /** A header of `length` bytes. Without a client the proxy speaks for itself, as when it looks whether a server is well. */
  | { readonly kind: 'header', readonly length: number, readonly client: PeerAddress | undefined }
  | { readonly kind: 'malformed', readonly rule: string }

const start1 = Buffer.from('PROXY ')
const start2 = Buffer.from('\r\n\r\n\0\r\nQUIT\n', 'latin1')
/** With the end of the line (§2.1). */
const longestLine = 107
const fixedBytes = 16
/** What follows the fixed part of version 2: addresses, and extensions that nobody here reads. */
const mostBytes = 4096

/** Bytes of two addresses and two ports, per family and protocol of version 2 (§2.2). */
const families: ReadonlyMap<number, { readonly bytes: number, readonly family?: 'ipv4' | 'ipv6' }> = new Map([
  [0x00, { bytes: 0 }],
  [0x11, { bytes: 12, family: 'ipv4' }],
  [0x12, { bytes: 12 }],
  [0x21, { bytes: 36, family: 'ipv6' }],
  [0x22, { bytes: 36 }],
  [0x31, { bytes: 216 }],
  [0x32, { bytes: 216 }]
])

/**
 * Reads the header of the PROXY protocol, version 1 or 2, by which a proxy says whose connection it passes on (HAProxy's
 * `proxy-protocol.txt`). Only TCP has a place here: other protocols of a client are malformed.
 */
export function readProxyHeader (bytes: Buffer): ProxyReading {
  for (const [start, read] of [[start1, readLine], [start2, readBinary]] as const) {
    const length = Math.min(start.length, bytes.length)
    if (!bytes.subarray(0, length).equals(start.subarray(0, length))) continue
    return length < start.length ? { kind: 'unfinished' } : read(bytes)
  }
  return { kind: 'none' }
}

function readLine (bytes: Buffer): ProxyReading {
  const end = bytes.subarray(0, longestLine).indexOf('\n')
  if (end < 0) return bytes.length < longestLine ? { kind: 'unfinished' } : malformed(`a line is longer than ${longestLine} bytes`)
  const line = bytes.toString('latin1', 0, end + 1)
  const length = end + 1
  if (!line.endsWith('\r\n')) return malformed('a line does not end with CR LF')
  if (/^PROXY UNKNOWN[ \r]/.test(line)) return { kind: 'header', length, client: undefined }
  const [, family, address = '', destination = '', port, destinationPort] =
    /^PROXY TCP([46]) ([0-9A-Fa-f.:]+) ([0-9A-Fa-f.:]+) (0|[1-9]\d{0,4}) (0|[1-9]\d{0,4})\r\n$/.exec(line) ?? []
  if (family === undefined) return malformed('a line is not "PROXY TCP4" or "TCP6" with two addresses and two ports')
  const isAddress = family === '4' ? isIPv4 : isIPv6
  if (!isAddress(address) || !isAddress(destination)) return malformed(`a line for TCP${family} has addresses that are none`)
  if (Number(port) > 65_535 || Number(destinationPort) > 65_535) return malformed('a port is above 65535')
  return { kind: 'header', length, client: canonical(address, family === '4' ? 'ipv4' : 'ipv6', Number(port)) }
}

function readBinary (bytes: Buffer): ProxyReading {
  if (bytes.length < fixedBytes) return { kind: 'unfinished' }
  const command = bytes.readUInt8(12)
  if (command !== 0x20 && command !== 0x21) return malformed('version and command are not 2 with LOCAL or PROXY')
  const spoken = families.get(bytes.readUInt8(13))
  if (spoken === undefined) return malformed('family and protocol are none that version 2 has')
  const size = bytes.readUInt16BE(14)
  if (size > mostBytes) return malformed(`it has more than ${mostBytes} bytes`)
  const length = fixedBytes + size
  const { family } = spoken
  const isLocal = command === 0x20
  if (!isLocal && family === undefined) return malformed('its client does not come over TCP')
  if (!isLocal && size < spoken.bytes) return malformed('it is too short for its addresses')
  if (bytes.length < length) return { kind: 'unfinished' }
  if (isLocal || family === undefined) return { kind: 'header', length, client: undefined }
  const octets = bytes.subarray(fixedBytes, fixedBytes + (family === 'ipv4' ? 4 : 16))
  const port = bytes.readUInt16BE(fixedBytes + spoken.bytes - 4)
  const address = family === 'ipv4' ? octets.join('.') : (octets.toString('hex').match(/.{4}/g) ?? []).join(':')
  return { kind: 'header', length, client: canonical(address, family, port) }
}

/** One text per address: clients are counted by it. */
function canonical (address: string, family: 'ipv4' | 'ipv6', port: number): PeerAddress {
  return { address: new SocketAddress({ address, family }).address, port }
}

function malformed (rule: string): ProxyReading {
  return { kind: 'malformed', rule }
}
