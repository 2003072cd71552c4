import { isIPv6 } from 'node:net'
import type { AddressInit, CidrRangeInit } from '../../wire/generated/envoy-core.ts'
import type { MeshWorkload } from '../mesh-state.ts'

/** @param networkNamespaceFilepath where the address is bound, if not where Envoy runs */
export function socketAddress (address: string, port: number, networkNamespaceFilepath?: string): AddressInit {
  return { socketAddress: { address, portValue: port, ...networkNamespaceFilepath === undefined ? {} : { networkNamespaceFilepath } } }
}

/**
 * Where a listener is bound in a workload's namespace, for IPv6 too where the workload has an address of it: elsewhere IPv6 may be off.
 * @param where `loopback`: for the workload itself; `anywhere`: for others
 */
export function boundAt ({ addresses, netnsPath }: MeshWorkload, where: 'loopback' | 'anywhere', port: number): BoundAt {
  const [four, six] = where === 'loopback' ? ['127.0.0.1', '::1'] as const : ['0.0.0.0', '::'] as const
  return {
    address: socketAddress(four, port, netnsPath),
    additionalAddresses: addresses.some(isIPv6) ? [{ address: socketAddress(six, port, netnsPath) }] : []
  }
}

/** On the host's own loopback. @param ipv6 whether that has an address of this kind: Envoy refuses a listener that it cannot bind */
export function boundAtHost (port: number, ipv6: boolean): BoundAt {
  return { address: socketAddress('127.0.0.1', port), additionalAddresses: ipv6 ? [{ address: socketAddress('::1', port) }] : [] }
}

export interface BoundAt { readonly address: AddressInit, readonly additionalAddresses: readonly { readonly address: AddressInit }[] }

/** Exactly one address. */
export function only (address: string): CidrRangeInit {
  return { addressPrefix: address, prefixLen: { value: isIPv6(address) ? 128 : 32 } }
}
