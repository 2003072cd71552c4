import { X509Certificate } from 'node:crypto'
import type { Bundle } from '../spiffe/bundle.ts'
import { codeOf } from '../spiffe/errors.ts'
import { parseSpiffeId } from '../spiffe/spiffe-id.ts'
import type { GetInfoResponse_CertInit } from '../wire/generated/agent-debug.ts'
import { encodeSpiffeId } from '../wire/spiffe-id-codec.ts'
import { type Certificate, parseCertificate } from '../x509/certificate.ts'
import { findPath } from '../x509/certification-path.ts'

/**
 * A chain as SPIRE's Debug APIs show it: up to the root where one is trusted, otherwise what is shown to others.
 * @param chain DER, leaf first; none: there is none yet
 */
export function describeChain (chain: readonly Uint8Array[], bundle: Bundle, at: Date): GetInfoResponse_CertInit[] {
  return path(chain, bundle, at).map(describe)
}

function path (chain: readonly Uint8Array[], bundle: Bundle, at: Date): readonly Certificate[] {
  const [leaf, ...others] = chain.map(parseCertificate)
  if (leaf === undefined) return []
  try {
    return findPath(leaf, others, bundle, at)
  } catch (error) {
    if (codeOf(error) === undefined) throw error
    return [leaf, ...others]
  }
}

function describe ({ raw, uriSans: [id], notAfter }: Certificate): GetInfoResponse_CertInit {
  return {
    id: id === undefined ? undefined : encodeSpiffeId(parseSpiffeId(id)),
    expiresAt: Math.floor(notAfter.getTime() / 1000),
    // The last part first, as RFC 4514 has it; the name of the serial number as Go writes it.
    subject: new X509Certificate(raw).subject.replace(/^serialNumber=/m, 'SERIALNUMBER=').split('\n').toReversed().join(',')
  }
}
