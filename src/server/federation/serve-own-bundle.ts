import type { OwnBundle } from '../../ca/own-bundle.ts'
import { CertificateFiles } from '../../federation/endpoint/certificate-files.ts'
import { serveBundleEndpoint, type BundleEndpointDeps } from '../../federation/endpoint/serve-bundle-endpoint.ts'
import { svidCertificate } from '../../federation/endpoint/serving-certificate.ts'
import type { Clock } from '../../runtime/clock.ts'
import type { Logger } from '../../runtime/logger.ts'
import { runTasks } from '../../runtime/tasks.ts'
import type { TlsIdentity } from '../server-identity.ts'
import type { BundleEndpointConfig } from './federation-config.ts'

export interface ServeOwnBundleDeps {
  readonly ownBundle: OwnBundle
  readonly identity: () => TlsIdentity
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
  { ownBundle, identity, onListening, clock, log }: ServeOwnBundleDeps,
  signal: AbortSignal
): Promise<void> {
  const options = { host: address, port, refreshHintSeconds }
  const common = { bundle: ownBundle, clock, log, ...onListening === undefined ? {} : { onListening } }
  if (profile.kind === 'https_spiffe') {
    await serveBundleEndpoint(options, { ...common, certificate: svidCertificate(identity) }, signal)
    return
  }
  const { certFilePath, keyFilePath, fileSyncIntervalMs } = profile.files
  const paths = { certificatePath: certFilePath, keyPath: keyFilePath }
  const certificate = await CertificateFiles.open(paths, { clock, log, lookEveryMs: fileSyncIntervalMs })
  await runTasks(signal, [
    signal => serveBundleEndpoint(options, { ...common, certificate }, signal),
    signal => certificate.run(signal)
  ])
}
