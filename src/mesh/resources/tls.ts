import type { SpiffeId } from '../../spiffe/spiffe-id.ts'
import { ApiVersion, type ConfigSourceInit, type TransportSocketInit } from '../../wire/generated/envoy-core.ts'
import { Config as FilterStateName } from '../../wire/generated/envoy-filter-state-name.ts'
import { Config as OnDemandSecret } from '../../wire/generated/envoy-on-demand-secret.ts'
import { StaticName } from '../../wire/generated/envoy-static-name.ts'
import {
  type CommonTlsContextInit, DownstreamTlsContext, TlsParameters_TlsProtocol as TlsProtocol, UpstreamTlsContext
} from '../../wire/generated/envoy-tls.ts'
import { extension } from './any.ts'
import { allBundles, noSecret, peersOf } from './names.ts'

/** From the agent, by the stream that brought the resource. */
export const fromAgent: ConfigSourceInit = { ads: {}, resourceApiVersion: ApiVersion.V3 }

/**
 * TLS 1.3 alone, both ends being ours: both bounds must be said, since upstream the upper one defaults to 1.2. The hybrid key exchange
 * comes first, so that what is recorded today is not read by a quantum computer later.
 */
const tlsParams = {
  tlsMinimumProtocolVersion: TlsProtocol.TLSv1_3,
  tlsMaximumProtocolVersion: TlsProtocol.TLSv1_3,
  ecdhCurves: ['X25519MLKEM768', 'X25519', 'P-256']
}

/** A workload's own side: its SVID, and a peer of a domain it accepts. */
export function inboundTls (id: SpiffeId, alpnProtocols: readonly string[]): TransportSocketInit {
  return extension('envoy.transport_sockets.tls', DownstreamTlsContext, {
    requireClientCertificate: { value: true },
    // Tickets and session ids would resume across identities; Envoy refuses the selector unless both are off.
    disableStatelessSessionResumption: true,
    disableStatefulSessionResumption: true,
    commonTlsContext: {
      ...common(alpnProtocols, extension('envoy.tls.certificate_mappers.static_name', StaticName, { name: id }), [id]),
      validationContextSdsSecretConfig: { name: peersOf(id), sdsConfig: fromAgent }
    }
  })
}

/** The side of whoever calls: the SVID its connection's filter state names, and exactly the peers that it names. */
export function outboundTls (alpnProtocols: readonly string[]): TransportSocketInit {
  const mapper = extension('envoy.tls.upstream_certificate_mappers.filter_state_override', FilterStateName, { defaultValue: noSecret })
  return extension('envoy.transport_sockets.tls', UpstreamTlsContext, {
    commonTlsContext: {
      ...common(alpnProtocols, mapper, []),
      validationContextSdsSecretConfig: { name: allBundles, sdsConfig: fromAgent }
    }
  })
}

function common (
  alpnProtocols: readonly string[], certificateMapper: ReturnType<typeof extension>, prefetchSecretNames: readonly string[]
): CommonTlsContextInit {
  return {
    tlsParams,
    alpnProtocols,
    customTlsCertificateSelector: extension('envoy.tls.certificate_selectors.on_demand_secret', OnDemandSecret, {
      configSource: fromAgent, certificateMapper, prefetchSecretNames
    })
  }
}
