import { createServer } from 'node:https'
import type { Socket } from 'node:net'
import type { SecureContextOptions, TLSSocket } from 'node:tls'
import type { Clock } from '../../runtime/clock.ts'
import type { Logger } from '../../runtime/logger.ts'
import type { ServeMetricsOptions } from '../../runtime/metrics.ts'
import type { Bundle } from '../../spiffe/bundle.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import type { SpiffeId } from '../../spiffe/spiffe-id.ts'
import type { TrustDomain } from '../../spiffe/trust-domain.ts'
import { verifyX509Svid } from '../../x509/verify-svid.ts'
import { CertificateFiles } from '../certificate-files.ts'
import { ChangingCertificate } from '../changing-certificate.ts'
import type { RenewedCertificate, ServingCertificate } from '../serving-certificate.ts'
import { svidCertificate } from '../svid-certificate.ts'
import { demandedOptions, peerChain, type TlsDemands, type TlsIdentity, tlsPolicy } from '../tls-identity.ts'
import type { PrometheusTls } from './telemetry-config.ts'

/** What a server or an agent knows of itself and of others. */
export interface MetricsTlsDeps extends TlsDemands {
  /** Another object when it was renewed; none yet: nobody is let in. */
  readonly identity: () => TlsIdentity | undefined
  readonly bundleOf: (trustDomain: TrustDomain) => Bundle | undefined
  readonly clock: Clock
  readonly log: Logger
}

export interface MetricsTls {
  readonly createServer: NonNullable<ServeMetricsOptions['createServer']>
  readonly mayRead: NonNullable<ServeMetricsOptions['mayRead']>
  /** Looks for new files until the signal aborts, and throws its reason then. */
  readonly run: RenewedCertificate['run'] | undefined
}

const handshakeTimeoutMs = 10_000

/**
 * Metrics over TLS, read by everybody, by whom authorities of a file certify, or by X509-SVIDs with certain SPIFFE IDs. Each connection
 * shows the newest certificate; whoever may not read loses its connection.
 * @throws {SpiffeError} `file_unusable`
 */
export async function openMetricsTls (
  { shown, readers }: PrometheusTls, { identity, bundleOf, requirePqKem, clock, log }: MetricsTlsDeps
): Promise<MetricsTls> {
  const clientCaPath = readers !== undefined && 'caPath' in readers ? readers.caPath : undefined
  const ids = readers !== undefined && 'ids' in readers ? readers.ids : undefined
  let cutAll = () => {}
  const files = shown === 'svid' ? undefined : await CertificateFiles.open({ ...shown, clientCaPath }, {
    // Whom the authorities of before let in is to come again.
    onTaken: () => cutAll(), expiredAtStart: 'shown', clock, log
  })
  const certificate: ServingCertificate = files ?? svidCertificate(identity)
  const policy = { ...policyOf(readers), ...demandedOptions({ requirePqKem }) }
  const mayBeHere = (socket: TLSSocket) => ids === undefined || isOneOf(socket, ids)

  function isOneOf (socket: TLSSocket, ids: ReadonlySet<SpiffeId>): boolean {
    const address = socket.remoteAddress
    try {
      const chain = peerChain(socket)
      if (chain.length === 0) throw new SpiffeError('peer_unauthenticated', 'a client certificate is required')
      const { id } = verifyX509Svid(chain, { bundleOf, at: clock.now() })
      if (ids.has(id)) return true
      log.warn({ address, spiffeId: id }, 'metrics are not shown: authorized_spiffe_ids does not have this one')
    } catch (error) {
      if (error instanceof SpiffeError) {
        const { code, message: reason, requirement } = error
        log.warn({ address, code, reason, requirement }, 'metrics are not shown: the client is not known')
      } else log.error({ err: error }, 'checking who reads metrics failed: this is a bug')
    }
    return false
  }

  return {
    createServer (options) {
      const server = createServer({ ...options, ...certificate.current(), ...policy, handshakeTimeout: handshakeTimeoutMs })
      const changing = new ChangingCertificate(server, certificate, { policy, handshakeTimeoutMs })
      server.on('connection', socket => {
        changing.showNewest()
        changing.begin(socket as Socket)
      })
      server.on('tlsClientError', (error, socket) => {
        log.debug({ address: socket.remoteAddress, reason: error.message }, 'TLS handshake failed')
        socket.destroy()
      })
      server.on('secureConnection', socket => { if (!mayBeHere(socket)) socket.destroy() })
      cutAll = () => { if (clientCaPath !== undefined) server.closeAllConnections() }
      return server
    },
    // Connections last, certificates end and bundles change; and what came with the handshake is read even where that was refused.
    mayRead: ({ socket }) => !socket.destroyed && mayBeHere(socket as TLSSocket),
    run: files && (signal => files.run(signal))
  }
}

/** Of files a client's certificate is checked by TLS itself; an X509-SVID by us, after the handshake. */
function policyOf (readers: PrometheusTls['readers']): SecureContextOptions & { requestCert: boolean, rejectUnauthorized: boolean } {
  const { minVersion, secureOptions } = tlsPolicy
  const isOfAuthorities = readers !== undefined && 'caPath' in readers
  return {
    minVersion, secureOptions, requestCert: readers !== undefined, rejectUnauthorized: isOfAuthorities, ...isOfAuthorities ? {} : { ca: [] }
  }
}
