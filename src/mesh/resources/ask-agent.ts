import { HttpExtAuthz, HttpExtAuthzPerRoute } from '../../wire/generated/envoy-http-ext-authz.ts'
import { NetworkExtAuthz } from '../../wire/generated/envoy-network-ext-authz.ts'
import { ApiVersion, type GrpcServiceInit } from '../../wire/generated/envoy-core.ts'
import type { SpiffeId } from '../../spiffe/spiffe-id.ts'
import { checkMetadata } from '../../authz/ext-authz/check-metadata.ts'
import type { Extension } from '../../authz/rbac/extension.ts'
import type { Placeholder } from '../../authz/rbac/rbac-filter.ts'
import { duration, extension, packed } from './any.ts'
import { key } from './filter-state.ts'
import { constant } from './names.ts'

/** How a chain knows the caller. */
export type Wire =
  /** The connection's own certificate tells. */
  | 'direct'
  /** A stream out of a tunnel: what the tunnel's chain kept of the caller tells. */
  | 'tunnelled'
  /** Nobody has told. */
  | 'plaintext'

/** Of the filter that asks about requests. */
const askName = 'envoy.filters.http.ext_authz'

/** Who waits longer is refused: the agent answers from memory. */
const patienceSeconds = 1
/** The agent's trouble is not the caller's fault: this status tells it from a refusal. */
const serviceUnavailable = 503

/** For one workload: each connection, or each request, is put before the agent, and nothing passes that it did not allow. */
export function askAboutConnection (destination: SpiffeId, wire: Wire): Extension {
  return extension('envoy.filters.network.ext_authz', NetworkExtAuthz, {
    statPrefix: 'agent', transportApiVersion: ApiVersion.V3, grpcService: agent(destination, wire), includeTlsSession: true
  })
}

/** Only where a route says so (`asked`). */
export function askAboutRequest (destination: SpiffeId, wire: Wire): Placeholder {
  return {
    ...extension(askName, HttpExtAuthz, {
      transportApiVersion: ApiVersion.V3, grpcService: agent(destination, wire), includeTlsSession: true,
      statusOnError: { code: serviceUnavailable }
    }), disabled: true
  }
}

/** What a route says of the filter that asks. */
export const asked = { [askName]: packed(HttpExtAuthzPerRoute, { checkSettings: {} }) }

/** A stream out of a tunnel has no certificate: what its tunnel's chain kept of the caller is told beside the question. */
function agent (destination: SpiffeId, wire: Wire): GrpcServiceInit {
  const tunnelled = wire !== 'tunnelled' ? [] : [
    { key: checkMetadata.source, value: `%FILTER_STATE(${key.peer}:PLAIN)%` },
    { key: checkMetadata.sourceAddress, value: `%FILTER_STATE(${key.source}:PLAIN)%` }
  ]
  return {
    envoyGrpc: { clusterName: constant.authorization },
    timeout: duration(patienceSeconds),
    initialMetadata: [{ key: checkMetadata.destination, value: destination }, ...tunnelled]
  }
}
