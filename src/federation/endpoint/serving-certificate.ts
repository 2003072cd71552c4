import type { SecureContext, SecureContextOptions } from 'node:tls'
import { contextOptions, type TlsIdentity } from '../../rpc/tls-identity.ts'

/** What the endpoint shows of itself. */
export interface ServingCertificate {
  /** Certificate and key; another object when they have changed, none until there are. Asked at each connection. */
  current (): SecureContextOptions | undefined
  /** Of ACME's TLS-ALPN-01, while there is one: shown to who asks for it. */
  challenge? (): SecureContext | undefined
}

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
