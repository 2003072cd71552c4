import { join } from 'node:path'
import type { OwnBundle } from '../../ca/own-bundle.ts'
import { serveBundleEndpoint, type BundleEndpointDeps } from '../../federation/endpoint/serve-bundle-endpoint.ts'
import { svidCertificate } from '../../rpc/svid-certificate.ts'
import { CertificateFiles } from '../../rpc/certificate-files.ts'
import type { TlsDemands } from '../../rpc/tls-identity.ts'
import type { Clock } from '../../runtime/clock.ts'
import type { Logger } from '../../runtime/logger.ts'
import { runTasks } from '../../runtime/tasks.ts'
import type { TlsIdentity } from '../server-identity.ts'
import type { AcmeConfig, BundleEndpointConfig, ServingCertConfig } from './federation-config.ts'

export interface ServeOwnBundleDeps extends TlsDemands {
  readonly ownBundle: OwnBundle
  readonly identity: () => TlsIdentity
  readonly dataDir: string
  /** PEM: whom an ACME server may be certified by, beside the web's roots. */
  readonly webCaPath: string | undefined
  readonly onListening?: BundleEndpointDeps['onListening'] | undefined
  readonly clock: Clock
  readonly log: Logger
}

/**
 * Serves the trust domain's bundle as the configuration says, until the signal aborts; every replica that is configured so does.
 * @throws {SpiffeError} `address_unusable`, `file_unusable`
 */
export async function serveOwnBundle (
  { address, port, refreshHintSeconds, profile }: BundleEndpointConfig,
  { ownBundle, identity, requirePqKem, dataDir, webCaPath, onListening, clock, log }: ServeOwnBundleDeps,
  signal: AbortSignal
): Promise<void> {
  const options = { host: address, port, refreshHintSeconds, requirePqKem }
  const common = { bundle: ownBundle, clock, log, ...onListening === undefined ? {} : { onListening } }
  if (profile.kind === 'https_spiffe') {
    await serveBundleEndpoint(options, { ...common, certificate: svidCertificate(identity) }, signal)
    return
  }
  const certificate = await ('acme' in profile ? openAcme(profile.acme) : openFiles(profile.files))
  await runTasks(signal, [
    signal => serveBundleEndpoint(options, { ...common, certificate }, signal),
    signal => certificate.run(signal)
  ])

  async function openFiles ({ certFilePath, keyFilePath, fileSyncIntervalMs }: ServingCertConfig) {
    const paths = { certificatePath: certFilePath, keyPath: keyFilePath }
    return await CertificateFiles.open(paths, { clock, log, lookEveryMs: fileSyncIntervalMs, expiredAtStart: 'shown' })
  }

  async function openAcme ({ domainName, ...config }: AcmeConfig) {
    const options = { ...config, domainNames: [domainName], caPath: webCaPath, folder: join(dataDir, 'acme') }
    // Its library is a third of what a server loads, and few order a certificate.
    const { AcmeCertificate } = await import('../../acme/acme-certificate.ts')
    return await AcmeCertificate.open(options, { clock, log })
  }
}
