import { isAbsolute } from 'node:path'
import { SpiffeError } from '../spiffe/errors.ts'

/** Of a plugin's first line, newline left out. */
export const mostHandshakeBytes = 4096

/**
 * Reads a plugin's first line of output: `1|1|unix|/path/of/socket|grpc|`, by go-plugin the versions of its own protocol and of SPIRE's,
 * and where the plugin listens.
 * @returns the path of its socket
 * @throws {SpiffeError} `plugin_handshake_failed`; the line is not quoted: who prints something else may print anything
 */
export function parseHandshake (line: string): string {
  const [core, version, network, address, protocol, certificate = ''] = line.trim().split('|')
  if (address === undefined) throw refused(`its first line of output (${line.length} characters) is no handshake of a plugin`)
  if (core !== '1') throw refused('it speaks another version of go-plugin than 1')
  if (version !== '1') throw refused('it speaks another version of SPIRE\'s plugin protocol than 1')
  if (protocol !== 'grpc') throw refused('it does not speak gRPC, but go-plugin\'s older protocol')
  if (network !== 'unix') throw refused('it does not listen on a Unix socket; on a port anybody on this machine could call it')
  if (!isAbsolute(address) || address.includes('\0')) throw refused('it names no absolute path of a socket')
  if (certificate !== '') throw refused('it wants TLS, which nobody asked for')
  return address
}

function refused (why: string): SpiffeError { return new SpiffeError('plugin_handshake_failed', why) }
