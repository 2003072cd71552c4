import type { AcmeOptions } from '../acme/acme-certificate.ts'
import { CertificateFiles, type CertificateFilesDeps, type CertificatePaths } from '../rpc/certificate-files.ts'
import type { RenewedCertificate } from '../rpc/serving-certificate.ts'

/** Who renews the certificate: others, in files, or this process itself. */
export type CertificateSource =
  | { readonly kind: 'files', readonly files: CertificatePaths, readonly everyMs: number }
  | { readonly kind: 'acme', readonly acme: AcmeOptions }

/** @throws {SpiffeError} `file_unusable` */
export async function openServingCertificate (
  source: CertificateSource, deps: Omit<CertificateFilesDeps, 'lookEveryMs'>
): Promise<RenewedCertificate> {
  if (source.kind === 'acme') {
    // Its library takes long to load.
    const { AcmeCertificate } = await import('../acme/acme-certificate.ts')
    return await AcmeCertificate.open(source.acme, deps)
  }
  return await CertificateFiles.open(source.files, { ...deps, lookEveryMs: source.everyMs })
}
