import { hash } from 'node:crypto'
import { SpiffeError } from './errors.ts'
import { parseIpAddress, type IpAddress } from './ip-address.ts'
import { parseSpiffeId, type SpiffeId } from './spiffe-id.ts'

/** How a workload's node takes connections for it: `hbone` in an HTTP CONNECT tunnel at the node, `mtls` at the workload's own ports. */
export type EndpointTransport = 'hbone' | 'mtls'
const endpointTransports: readonly EndpointTransport[] = ['hbone', 'mtls']

/** A workload with an identity that lives on a node, as its agent reports it. */
export interface LocalEndpoint {
  readonly spiffeId: SpiffeId
  /** Of the workload, as other nodes reach it. */
  readonly address: IpAddress
  /** For people; empty where the node has no name. */
  readonly node: string
  /** At least one, the preferred one first. */
  readonly transports: readonly EndpointTransport[]
  /** Differs for a workload that came in the place of another one with the same ID and address. */
  readonly incarnation: string
}

/** The same as the trust domain knows it. */
export interface ServiceEndpoint extends LocalEndpoint {
  /** Follows from agent, SPIFFE ID and address: of several alike the agent reports one. */
  readonly id: string
  /** Who reported it, and alone may change it. */
  readonly agentId: SpiffeId
}

/** What one agent may report at once. */
export const mostLocalEndpoints = 1_000

export function endpointOf (agentId: SpiffeId, local: LocalEndpoint): ServiceEndpoint {
  const id = hash('sha256', JSON.stringify([agentId, local.spiffeId, local.address])).slice(0, 32)
  const { spiffeId, address, node, transports, incarnation } = local
  return { id, agentId, spiffeId, address, node, transports, incarnation }
}

/** @throws {SpiffeError} `service_malformed` */
export function checkLocalEndpoint (raw: { readonly [Name in keyof LocalEndpoint]: LocalEndpoint[Name] extends string ? string
  : readonly string[] }): LocalEndpoint {
  return {
    spiffeId: readId(raw.spiffeId),
    address: parseIpAddress(raw.address, 'the endpoint\'s address'),
    node: shortText(raw.node, 'node'),
    transports: readTransports(raw.transports),
    incarnation: shortText(raw.incarnation, 'incarnation')
  }
}

/** Whether they are the same in all they say. */
export function isSameEndpoint (a: ServiceEndpoint, b: ServiceEndpoint): boolean {
  return a.id === b.id && a.incarnation === b.incarnation && a.node === b.node && a.transports.join() === b.transports.join()
}

function readId (text: string): SpiffeId {
  try {
    return parseSpiffeId(text)
  } catch (error) {
    throw new SpiffeError('service_malformed', `invalid endpoint: ${(error as SpiffeError).message}`, { cause: error })
  }
}

function readTransports (given: readonly string[]): readonly EndpointTransport[] {
  const known = given.filter((text): text is EndpointTransport => (endpointTransports as readonly string[]).includes(text))
  // A newer agent may offer more than this version knows.
  if (known.length === 0) throw new SpiffeError('service_malformed', 'invalid endpoint: no known transport')
  return [...new Set(known)]
}

function shortText (text: string, name: string): string {
  if (text.length > 253 || !/^[\x20-\x7e]*$/.test(text)) {
    throw new SpiffeError('service_malformed', `invalid endpoint: ${name} is longer than 253 characters or not printable ASCII`)
  }
  return text
}
