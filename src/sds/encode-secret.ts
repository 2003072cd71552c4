import { createHash } from 'node:crypto'
import type { Bundle } from '../spiffe/bundle.ts'
import type { X509Svid } from '../spiffe/svid.ts'
import { encodeMessage } from '../wire/encode-message.ts'
import { type CertificateValidationContextInit, Secret, SPIFFECertValidatorConfig } from '../wire/generated/envoy-tls.ts'
import { encodePem } from '../x509/pem.ts'
import type { ValidationForm } from './envoy-node.ts'
import type { SecretResource } from './secret-resource.ts'

export const secretTypeUrl = 'type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret'
const spiffeValidatorTypeUrl = 'type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.SPIFFECertValidatorConfig'

/** The PEM forms Envoy reads: chain leaf first, key PKCS#8. */
export function encodeCertificateSecret (name: string, svid: X509Svid): SecretResource {
  const value = encodeMessage(Secret, {
    name,
    tlsCertificate: {
      certificateChain: { inlineBytes: pemOf('CERTIFICATE', svid.chain) },
      privateKey: { inlineBytes: pemOf('PRIVATE KEY', [svid.privateKey]) }
    }
  })
  return { name, value, version: hash('certificate', svid.chain), expiresAt: svid.notAfter }
}

/**
 * @param bundles of one trust domain, or of several for the SPIFFE validator, which keeps them apart: it checks a peer against the
 *   bundle of the peer's own domain only
 */
export function encodeBundleSecret (name: string, bundles: readonly Bundle[], form: ValidationForm): SecretResource {
  const value = encodeMessage(Secret, { name, validationContext: form === 'spiffe' ? spiffeValidation(bundles) : plainValidation(bundles) })
  return { name, value, version: hash('bundle', [value]), expiresAt: undefined }
}

/** The proxy reads the file itself: nothing of this node is in it. */
export function encodeFileSecret (name: string, file: string): SecretResource {
  const value = encodeMessage(Secret, { name, validationContext: { trustedCa: { filename: file } } })
  return { name, value, version: hash('file', [value]), expiresAt: undefined }
}

function spiffeValidation (bundles: readonly Bundle[]): CertificateValidationContextInit {
  const trustDomains = bundles
    .toSorted((a, b) => a.trustDomain < b.trustDomain ? -1 : 1)
    .map(bundle => ({ name: bundle.trustDomain, trustBundle: { inlineBytes: pemOfBundle(bundle) } }))
  return {
    customValidatorConfig: {
      name: 'envoy.tls.cert_validator.spiffe',
      typedConfig: { typeUrl: spiffeValidatorTypeUrl, value: encodeMessage(SPIFFECertValidatorConfig, { trustDomains }) }
    }
  }
}

function plainValidation (bundles: readonly Bundle[]): CertificateValidationContextInit {
  return { trustedCa: { inlineBytes: Buffer.concat(bundles.map(pemOfBundle)) } }
}

function pemOfBundle (bundle: Bundle): Uint8Array {
  return pemOf('CERTIFICATE', bundle.x509Authorities.map(authority => authority.certificate))
}

function pemOf (label: string, ders: readonly Uint8Array[]): Uint8Array {
  return Buffer.from(ders.map(der => encodePem(label, der)).join(''), 'latin1')
}

function hash (kind: string, parts: readonly Uint8Array[]): string {
  const digest = createHash('sha256').update(kind)
  for (const part of parts) digest.update(`:${part.length}:`).update(part)
  return digest.digest('hex').slice(0, 32)
}
