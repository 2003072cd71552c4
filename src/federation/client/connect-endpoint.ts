import { isIP } from 'node:net'
import { connect, type ConnectionOptions, type SecureContext, type TLSSocket } from 'node:tls'
import { peerChain, secureContextOf } from '../../rpc/tls-identity.ts'
import type { Clock } from '../../runtime/clock.ts'
import type { BundleEndpointProfile, BundleEndpointUrl } from '../../spiffe/bundle-endpoint.ts'
import type { Bundle } from '../../spiffe/bundle.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import { trustDomainOf, type SpiffeId } from '../../spiffe/spiffe-id.ts'
import type { TrustDomain } from '../../spiffe/trust-domain.ts'
import { verifyX509Svid } from '../../x509/verify-svid.ts'

/** Whom to believe that it is the endpoint. */
export interface EndpointTrust {
  /** For `https_web`. */
  readonly webRoots: { context (): Promise<SecureContext> }
  /**
   * For `https_spiffe`: the newest bundle of the endpoint ID's trust domain; of a domain that serves its own bundle the stored one, which
   * is what the operator gave until a first fetch (FED-24, FED-28).
   */
  readonly bundleOf: (trustDomain: TrustDomain) => Bundle | undefined | Promise<Bundle | undefined>
  readonly clock: Clock
  /**
   * For `https_spiffe` where nothing vouches for the endpoint yet: takes what it shows, which is believed at first. Whoever gives this
   * holds it against what was fetched, and that against a pin (`fetchInvited`).
   */
  readonly onShown?: ((chain: readonly Uint8Array[]) => void) | undefined
}

/** Connects to one hop; its proof is what the relationship asks for. */
export type Connect = (url: BundleEndpointUrl, signal: AbortSignal) => Promise<TLSSocket>

/**
 * Gathers what the endpoint is held against, the same for each hop of a fetch. What is returned connects and lets the endpoint prove who it
 * is, before it is told anything. Each hop proves it anew: no session is resumed.
 * @throws {SpiffeError} `bundle_endpoint_id_unknown`, `file_unusable`; when it connects, `bundle_endpoint_untrusted`, or the system's error
 */
export async function prepareConnect (profile: BundleEndpointProfile, trust: EndpointTrust): Promise<Connect> {
  if (profile.kind === 'https_web') {
    const secureContext = await trust.webRoots.context()
    return (url, signal) => openTls(url, { secureContext, rejectUnauthorized: true }, signal)
  }
  const { onShown, clock } = trust
  const bundle = onShown === undefined ? await bundleFor(profile.endpointId, trust) : undefined
  return async (url, signal) => {
    // The host's name and the web's roots have no say (FED-27): the chain is checked here.
    const socket = await openTls(url, { secureContext: secureContextOf(undefined), rejectUnauthorized: false }, signal)
    try {
      const chain = peerChain(socket)
      if (bundle === undefined) onShown?.(chain)
      else verifyEndpoint(chain, profile.endpointId, bundle, clock.now())
      return socket
    } catch (error) {
      socket.destroy()
      throw error
    }
  }
}

async function bundleFor (endpointId: SpiffeId, { bundleOf }: EndpointTrust): Promise<Bundle> {
  const trustDomain = trustDomainOf(endpointId)
  const bundle = await bundleOf(trustDomain)
  if (bundle !== undefined) return bundle
  const rule = `nothing tells whether ${endpointId} is who it says: there is no bundle of ${trustDomain}`
  throw new SpiffeError('bundle_endpoint_id_unknown', rule, { requirement: 'FED-24' })
}

/** @throws {SpiffeError} `bundle_endpoint_untrusted` */
export function verifyEndpoint (chain: readonly Uint8Array[], endpointId: SpiffeId, bundle: Bundle, at: Date): void {
  let shown
  try {
    shown = verifyX509Svid(chain, { bundleOf: trustDomain => trustDomain === bundle.trustDomain ? bundle : undefined, at })
  } catch (cause) {
    if (!(cause instanceof SpiffeError)) throw cause
    const { message, requirement } = cause
    const rule = `the endpoint does not prove to be ${endpointId}: ${message}`
    throw new SpiffeError('bundle_endpoint_untrusted', rule, { cause, requirement })
  }
  if (shown.id === endpointId) return
  throw new SpiffeError('bundle_endpoint_untrusted', `the endpoint shows ${shown.id} instead of ${endpointId}`, { requirement: 'FED-27' })
}

function openTls (
  url: BundleEndpointUrl, options: Pick<ConnectionOptions, 'secureContext' | 'rejectUnauthorized'>, signal: AbortSignal
): Promise<TLSSocket> {
  const { hostname, port } = new URL(url)
  const host = hostname.replace(/^\[|\]$/g, '')
  return new Promise((resolve, reject) => {
    if (signal.aborted) return reject(signal.reason)
    const stop = () => {
      socket.destroy()
      reject(signal.reason)
    }
    const socket = connect({
      ...options, host, port: port === '' ? 443 : Number(port), minVersion: 'TLSv1.2', ALPNProtocols: ['http/1.1'],
      // An address is no server name (RFC 6066 §3); the certificate is held against it all the same.
      ...isIP(host) === 0 ? { servername: host } : {}
    }, () => {
      signal.removeEventListener('abort', stop)
      resolve(socket)
    })
    signal.addEventListener('abort', stop)
    socket.once('close', () => signal.removeEventListener('abort', stop))
    socket.on('error', (error: NodeJS.ErrnoException) => {
      // Set when the chain or the name is at fault, and not the connection.
      const { authorizationError } = socket as { authorizationError?: unknown }
      if (authorizationError === undefined || authorizationError === null) return reject(error)
      const rule = `the endpoint does not prove to be ${host}: ${error.message}`
      reject(new SpiffeError('bundle_endpoint_untrusted', rule, { cause: error, requirement: 'FED-23' }))
    })
    socket.once('close', () => {
      reject(new SpiffeError('bundle_endpoint_unreachable', 'the connection was closed during the handshake'))
    })
  })
}
