import { X509Certificate } from 'node:crypto'
import type { SecureContext, SecureContextOptions } from 'node:tls'

/** What a listener of the web's kind shows of itself. */
export interface ServingCertificate {
  /** Certificate and key; another object when they have changed, none until there are. Asked at each connection. */
  current (): SecureContextOptions | undefined
  /** Of ACME's TLS-ALPN-01, while there is one: shown to who asks for it. */
  challenge? (): SecureContext | undefined
}

/** One that somebody has to keep fresh. */
export interface RenewedCertificate extends ServingCertificate {
  /** Keeps it fresh until the signal aborts, and throws its reason then. */
  run (signal: AbortSignal): Promise<void>
}

const leaves = new WeakMap<SecureContextOptions, X509Certificate>()

/** @param options with a chain in PEM @returns its first certificate */
export function leafOf (options: SecureContextOptions): X509Certificate {
  const known = leaves.get(options)
  if (known !== undefined) return known
  const leaf = new X509Certificate(options.cert as string)
  leaves.set(options, leaf)
  return leaf
}
