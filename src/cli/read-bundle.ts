import { readBundle as readBundleObject } from '../spiffe/bundle-document.ts'
import type { Bundle } from '../spiffe/bundle.ts'
import { SpiffeError } from '../spiffe/errors.ts'
import { parseSpiffeId, pathOf, trustDomainOf } from '../spiffe/spiffe-id.ts'
import { parseStrictJsonObject } from '../spiffe/strict-json.ts'
import type { TrustDomain } from '../spiffe/trust-domain.ts'
import { parseCertificate } from '../x509/certificate.ts'
import { decodePem } from '../x509/pem.ts'
import { usage } from './parse-flags.ts'

interface BundleSource {
  /** For messages. */
  readonly name: string
  /** Told by the text itself when absent. */
  readonly format?: 'pem' | 'spiffe' | undefined
  /**
   * Whose bundle it is; neither form of file says so. When absent: the one trust domain that its CA certificates name, and
   * when they name none, for a SPIFFE document, `fallback`.
   */
  readonly trustDomain?: TrustDomain | undefined
  readonly fallback?: TrustDomain | undefined
}

/** @throws {SpiffeError} `file_unusable` for what is no bundle; `usage_invalid` when nothing tells the trust domain */
export function readBundleText (text: string, source: BundleSource): Bundle {
  const json = source.format === undefined ? text.trimStart().startsWith('{') : source.format === 'spiffe'
  try {
    return json ? readDocument(text, source) : readPem(text, source)
  } catch (error) {
    if (!(error instanceof SpiffeError) || error.code === 'usage_invalid') throw error
    const { message, requirement } = error
    throw new SpiffeError('file_unusable', `${source.name} is not a bundle: ${message}`, { cause: error, requirement })
  }
}

function readDocument (text: string, { name, trustDomain, fallback }: BundleSource): Bundle {
  const document = parseStrictJsonObject(text)
  if (trustDomain !== undefined) return readBundleObject(document, trustDomain)
  const unnamed = readBundleObject(document, '' as TrustDomain)
  const certificates = unnamed.x509Authorities.map(({ certificate }) => certificate)
  return { ...unnamed, trustDomain: domainNamedBy(certificates) ?? fallback ?? refuse(name) }
}

function readPem (text: string, { name, trustDomain }: BundleSource): Bundle {
  const certificates = decodePem(text, 'CERTIFICATE')
  if (certificates.length === 0) throw new SpiffeError('bundle_malformed', 'it holds no PEM certificate')
  for (const certificate of certificates) parseCertificate(certificate)
  return {
    trustDomain: trustDomain ?? domainNamedBy(certificates) ?? refuse(name),
    x509Authorities: certificates.map(certificate => ({ certificate, tainted: false })),
    jwtAuthorities: []
  }
}

/** CA certificates should carry the trust domain's own ID (X509-SVID §4.1); `undefined` unless they agree on one. */
function domainNamedBy (certificates: readonly Uint8Array[]): TrustDomain | undefined {
  const domains = new Set(certificates.flatMap(der => parseCertificate(der).uriSans.flatMap(uri => {
    try {
      const id = parseSpiffeId(uri)
      return pathOf(id) === '' ? [trustDomainOf(id)] : []
    } catch {
      return []
    }
  })))
  return domains.size === 1 ? [...domains][0] : undefined
}

function refuse (name: string): never {
  throw usage(`${name} does not say whose bundle it is: give -trust-domain`)
}
