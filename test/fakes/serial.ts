import { X509Certificate } from 'node:crypto'

/** Ours are in small letters without leading zeros; OpenSSL's and Envoy's may be otherwise. */
export function sameSerial (a: unknown, b: unknown): boolean {
  return typeof a === 'string' && typeof b === 'string' && BigInt(`0x${a}`) === BigInt(`0x${b}`)
}

export function serialOf ({ chain }: { readonly chain: readonly Uint8Array[] }): string {
  return new X509Certificate(chain[0] as Uint8Array).serialNumber
}
