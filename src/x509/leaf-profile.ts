import { SpiffeError } from '../spiffe/errors.ts'
import { parseSpiffeId, pathOf, type SpiffeId } from '../spiffe/spiffe-id.ts'
import type { Certificate } from './certificate.ts'
import { oid } from './oid.ts'

/**
 * Checks what an X509-SVID must be, its signature aside (X509-SVID §5.2; what §2 to §4 demand of issuers too: AMB-23).
 * @returns its ID
 * @throws {SpiffeError} `x509_svid_invalid`, with the number of the broken requirement
 */
export function checkLeaf (leaf: Certificate): SpiffeId {
  if (leaf.isCa) throw invalid('X509-06', 'a signing certificate does not authenticate')
  const id = checkUriSan(leaf)
  checkUsage(leaf)
  if (leaf.subjectDer.length === 2 && !leaf.critical.has(oid.subjectAltName)) {
    throw invalid('X509-05', 'the subject is empty and subjectAltName is not critical')
  }
  if (leaf.nameConstraints !== undefined) throw invalid('X509-12', 'name constraints on a leaf')
  const [unknown] = leaf.unknownCritical
  if (unknown !== undefined) throw invalid('X509-19', `critical extension ${unknown} is unknown`)
  return id
}

function checkUriSan ({ uriSans }: Certificate): SpiffeId {
  const [uri] = uriSans
  if (uri === undefined) throw invalid('X509-01', 'no URI SAN')
  if (uriSans.length > 1) throw invalid('X509-02', `${uriSans.length} URI SANs where exactly one is due`)
  const id = parseId(uri)
  if (pathOf(id) === '') throw invalid('X509-04', `${id} has no path`)
  return id
}

function parseId (uri: string): SpiffeId {
  try {
    return parseSpiffeId(uri)
  } catch (error) {
    if (!(error instanceof SpiffeError)) throw error
    // The scheme has a requirement of its own here.
    const requirement = error.requirement === 'ID-01' ? 'X509-20' : error.requirement
    throw new SpiffeError('x509_svid_invalid', `URI SAN: ${error.message}`, { cause: error, requirement })
  }
}

function checkUsage ({ keyUsage, extendedKeyUsage, critical }: Certificate): void {
  if (keyUsage === undefined || !critical.has(oid.keyUsage)) throw invalid('X509-13', 'keyUsage is missing or not critical')
  if (!keyUsage.has('digitalSignature')) throw invalid('X509-15', 'keyUsage lacks digitalSignature')
  for (const usage of ['keyCertSign', 'cRLSign'] as const) if (keyUsage.has(usage)) throw invalid('X509-16', `keyUsage has ${usage}`)
  if (extendedKeyUsage === undefined) return
  for (const purpose of ['serverAuth', 'clientAuth'] as const) {
    if (!extendedKeyUsage.has(oid[purpose])) throw invalid('X509-18', `extendedKeyUsage lacks ${purpose}`)
  }
}

function invalid (requirement: string, message: string): SpiffeError {
  return new SpiffeError('x509_svid_invalid', message, { requirement })
}
