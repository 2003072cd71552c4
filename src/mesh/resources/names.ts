import type { SpiffeId } from '../../spiffe/spiffe-id.ts'
import type { Wire } from './ask-agent.ts'
import type { MeshPort, MeshService, MeshWorkload } from '../mesh-state.ts'

/** What a connection without an identity asks for: nobody has it, and so it fails at once. */
export const noSecret = 'none'
/** Bundles of the own trust domain, and of those that a workload of this node federates with and whose members serve something. */
export const allBundles = 'ALL'

/** Bundles of those whom one identity accepts: the own trust domain's, and of the domains its entry federates with. */
export function peersOf (id: SpiffeId): string { return `peers/${id}` }

/** @returns the identity of a name of `peersOf` */
export function identityOfPeers (name: string): string | undefined {
  return name.startsWith('peers/') ? name.slice('peers/'.length) : undefined
}

export function outboundListener ({ uid }: MeshWorkload): string { return `out/${uid}` }
export function tunnelListener ({ uid }: MeshWorkload): string { return `in/${uid}` }
export function inboundListener ({ uid }: MeshWorkload): string { return `in-direct/${uid}` }
/** Of streams out of tunnels, and of the cluster by which they get there. */
export function tunnelledListener ({ uid }: MeshWorkload): string { return `in-tunnelled/${uid}` }
/**
 * What policies say of connections to a workload, in three filters: one says, once the handshake is done, where the workload is to be
 * reached; one leaves marks; one decides with the first byte.
 */
export type ConnectionPart = 'reach' | 'audit' | 'decision'
export function connectionRules ({ uid }: MeshWorkload, wire: Wire, part: ConnectionPart): string { return `rules/${uid}/${wire}/${part}` }
/** What they say of requests. */
export function requestRules ({ uid }: MeshWorkload, wire: Wire): string { return `requests/${uid}/${wire}` }
export function localListener ({ uid }: MeshWorkload, service: MeshService, { localPort }: MeshPort): string {
  return `local/${uid}/${service.name}/${localPort}`
}
export const hostListener = 'out-host'
export function localHostListener ({ name }: MeshService, { localPort }: MeshPort): string { return `local-host/${name}/${localPort}` }
export function serviceCluster (service: MeshService, { port }: MeshPort): string { return `service/${service.name}/${port}` }

/** Clusters and listeners that every node has. */
export const constant = {
  /** mTLS over which streams are tunnelled to the original destination. */
  tunnels: 'hbone-out',
  /** mTLS to the original destination itself. */
  direct: 'mtls-out',
  /** Where a tunnel's stream leaves for its workload. */
  tunnelled: 'hbone-in',
  /** Where any other connection leaves for its workload. */
  workload: 'workload',
  /** Out of the workload's namespace, as it came. */
  passthrough: 'passthrough',
  /** Gives each connection that comes here a tunnel. */
  originate: 'connect-originate',
  /** Reads the HTTP of a tunnel's stream. */
  http: 'inbound-http',
  /** Where the agent answers whether a request may pass. */
  authorization: 'authorization',
  /** Where the agent takes reports of what the proxy decided. */
  reports: 'reports',
  /** Takes spans. */
  spans: 'spans'
} as const
