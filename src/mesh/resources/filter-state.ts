import { FilterStateValue_SharedWithUpstream as Shared, type FilterStateValueInit } from '../../wire/generated/envoy-filter-state-value.ts'
import { Config as SetFilterState } from '../../wire/generated/envoy-set-filter-state.ts'
import type { FilterInit } from '../../wire/generated/envoy-listener.ts'
import { extension } from './any.ts'
import type { SpiffeId } from '../../spiffe/spiffe-id.ts'

/** A connection's facts under the names by which Envoy's filters read them. */
export const key = {
  identity: 'envoy.tls.certificate_mappers.on_demand_secret',
  expectedPeers: 'envoy.network.upstream_subject_alt_names',
  destination: 'envoy.filters.listener.original_dst.local_ip',
  destinationPool: 'assay.destination',
  namespace: 'envoy.network.upstream_bind_override.network_namespace',
  workload: 'assay.workload',
  local: 'assay.local',
  peer: 'assay.peer',
  source: 'assay.source',
  peerDigest: 'assay.peer.sha256',
  readsRequests: 'assay.reads_requests',
  verdict: 'assay.verdict'
} as const

/**
 * The name of the secret of the connection's source. Hashable, and so part of the pool's key: without that, pools of HTTP connections are
 * shared by workloads, and one speaks with another's certificate.
 */
export function identityState (secretName: string): FilterStateValueInit { return hashable(key.identity, secretName) }

/** Whom the connection must reach; also part of the pool's key. */
export function expectedPeersState (ids: readonly string[]): FilterStateValueInit {
  return { objectKey: key.expectedPeers, formatString: text(ids.join(',')), sharedWithUpstream: Shared.TRANSITIVE }
}

/**
 * The namespace in which the connection to the workload is made. It is not part of a pool's key; the workload beside it is, so that
 * no workload is answered by another's.
 */
export function workloadState (uid: string, netnsPath: string): FilterStateValueInit[] {
  return [workloadPool(uid), namespaceState(netnsPath)]
}

export function workloadPool (uid: string): FilterStateValueInit { return hashable(key.workload, uid) }

export function namespaceState (format: string): FilterStateValueInit {
  return {
    objectKey: key.namespace, factoryKey: 'envoy.network.network_namespace', formatString: text(format),
    sharedWithUpstream: Shared.TRANSITIVE
  }
}

/** Who is called, for spans of who reads the tunnel's stream. */
export function localState (id: SpiffeId): FilterStateValueInit { return hashable(key.local, id) }

/** Who calls, once the handshake has told: for rules, for headers and logs. */
export function peerState (): FilterStateValueInit[] {
  return [
    hashable(key.peer, '%DOWNSTREAM_PEER_URI_SAN%'),
    { objectKey: key.peerDigest, factoryKey: 'envoy.string', formatString: text('%DOWNSTREAM_PEER_FINGERPRINT_256%') }
  ]
}

/** Whence a tunnel comes, for rules about its streams: the connection of a stream inside the proxy has no such address. */
export function sourceState (): FilterStateValueInit { return hashable(key.source, '%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%') }

/** Where an internal listener sends a connection on. */
export function destinationState (format: string): FilterStateValueInit[] {
  return [
    { objectKey: key.destination, formatString: text(format), sharedWithUpstream: Shared.TRANSITIVE },
    hashable(key.destinationPool, format)
  ]
}

export function setFilterState (
  onNewConnection: readonly FilterStateValueInit[], onDownstreamTlsHandshake: readonly FilterStateValueInit[] = []
): FilterInit {
  return extension('envoy.filters.network.set_filter_state', SetFilterState, { onNewConnection, onDownstreamTlsHandshake })
}

export function text (inlineString: string): { textFormatSource: { inlineString: string } } {
  return { textFormatSource: { inlineString } }
}

/**
 * Part of the key of each pool that the value crosses. Whatever is passed on and is not part of it is taken from the connection for which
 * the pool was made, also for those that come after.
 */
export function hashable (objectKey: string, value: string): FilterStateValueInit {
  return { objectKey, factoryKey: 'envoy.hashable_string', formatString: text(value), sharedWithUpstream: Shared.TRANSITIVE }
}
