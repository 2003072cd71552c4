import type { SecureContextOptions } from 'node:tls'
import type { ServingCertificate } from '../../rpc/serving-certificate.ts'
import { contextOptions, type TlsIdentity } from '../../rpc/tls-identity.ts'

/** `https_spiffe`: the server's own X509-SVID (FED-26). @param identity another object when it was renewed */
export function svidCertificate (identity: () => TlsIdentity): ServingCertificate {
  let made: { readonly from: TlsIdentity, readonly options: SecureContextOptions } | undefined
  return {
    current () {
      const from = identity()
      if (made?.from !== from) made = { from, options: contextOptions(from) }
      return made.options
    }
  }
}
