import { isIP } from 'node:net'
import type { SocketAddress } from './socket-address.ts'

/**
 * How Envoy is to name a connection when it asks whose secret to use for it: where it comes from, what it was to reach (behind the listener
 * filter `original_dst` what the workload asked for) and a number, so that an answer is for this connection and never for the next one
 * with the same ends.
 */
export const connectionNameFormat = 'conn/%DOWNSTREAM_DIRECT_REMOTE_ADDRESS%/%DOWNSTREAM_LOCAL_ADDRESS%/%CONNECTION_ID%'

export interface ConnectionName {
  readonly source: SocketAddress
  readonly destination: SocketAddress
  /** Envoy's; unique while it runs. */
  readonly id: string
}

/** @returns `undefined` for what is no such name, whole and exact */
export function parseConnectionName (name: string): ConnectionName | undefined {
  const [, from = '', to = '', id = ''] = /^conn\/([^/]+)\/([^/]+)\/(\d{1,20})$/.exec(name) ?? []
  const source = parseEnd(from)
  const destination = parseEnd(to)
  return source === undefined || destination === undefined ? undefined : { source, destination, id }
}

/** `192.0.2.1:80` or `[2001:db8::1]:80`. */
function parseEnd (text: string): SocketAddress | undefined {
  const [, inBrackets, plain, portText] = /^(?:\[([0-9a-f:.]+)\]|([0-9.]+)):([1-9]\d{0,4})$/.exec(text) ?? []
  const address = inBrackets ?? plain
  const port = Number(portText)
  if (address === undefined || port > 65_535) return undefined
  return isIP(address) === (inBrackets === undefined ? 4 : 6) ? { address, port } : undefined
}
