import { isIPv6 } from 'node:net'
import type { AddressInit, CidrRangeInit } from '../../wire/generated/envoy-core.ts'

/** @param networkNamespaceFilepath where the address is bound, if not where Envoy runs */
export function socketAddress (address: string, port: number, networkNamespaceFilepath?: string): AddressInit {
  return { socketAddress: { address, portValue: port, ...networkNamespaceFilepath === undefined ? {} : { networkNamespaceFilepath } } }
}

/** Exactly one address. */
export function only (address: string): CidrRangeInit {
  return { addressPrefix: address, prefixLen: { value: isIPv6(address) ? 128 : 32 } }
}

/** As in `:authority` and in Envoy's own address texts. */
export function hostAndPort (address: string, port: number | string): string {
  return isIPv6(address) ? `[${address}]:${port}` : `${address}:${port}`
}
