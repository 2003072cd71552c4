/** Headers of the PROXY protocol, as a proxy writes them (`proxy-protocol.txt` §2.1, §2.2). */

export const signature = Buffer.from('0d0a0d0a000d0a515549540a', 'hex')

/** @param command 0: LOCAL, 1: PROXY. @param family the high half of its byte: 1 IPv4, 2 IPv6; the low: 1 stream */
export function binaryHeader (
  { version = 2, command = 1, family = 0x11, body = Buffer.alloc(0), size = body.length }:
  { version?: number, command?: number, family?: number, body?: Buffer, size?: number }
): Buffer {
  return Buffer.concat([signature, Buffer.from([version << 4 | command, family, size >> 8, size & 0xff]), body])
}

/** Addresses and ports of version 2. @param octets of each address, 4 or 16 */
export function binaryEnds (from: { octets: number[], port: number }, to = { octets: from.octets.map(() => 0), port: 443 }): Buffer {
  const ports = Buffer.alloc(4)
  ports.writeUInt16BE(from.port)
  ports.writeUInt16BE(to.port, 2)
  return Buffer.concat([Buffer.from(from.octets), Buffer.from(to.octets), ports])
}
