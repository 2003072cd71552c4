import type { SecureContextOptions } from 'node:tls'
import type { ServingCertificate } from './serving-certificate.ts'
import { contextOptions, type TlsIdentity } from './tls-identity.ts'

/**
 * The server's or the agent's own X509-SVID, for a listener of the web's kind; at a bundle endpoint `https_spiffe` (FED-26).
 * @param identity another object when it was renewed; none yet: nobody is let in
 */
export function svidCertificate (identity: () => TlsIdentity | undefined): ServingCertificate {
  let made: { readonly from: TlsIdentity, readonly options: SecureContextOptions } | undefined
  return {
    current () {
      const from = identity()
      if (from === undefined) return undefined
      if (made?.from !== from) made = { from, options: contextOptions(from) }
      return made.options
    }
  }
}
