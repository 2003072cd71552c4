import type { Node } from '../wire/generated/envoy-core.ts'
import type { DeltaDiscoveryRequest, DiscoveryRequest } from '../wire/generated/envoy-sds.ts'
import type { Status } from '../wire/generated/google-rpc.ts'
import type { DeltaRequest } from './delta-session.ts'
import { type EnvoyNode, parseSwitch } from './envoy-node.ts'
import type { SotwRequest } from './sotw-session.ts'

/** Enough to recognise a node or a reason in a log line. */
const maxNodeIdLength = 256
const maxReasonLength = 1000

export function readNode (node: Node): EnvoyNode {
  const version = node.userAgentBuildVersion?.version
  const disabled = node.metadata?.fields['disable_spiffe_cert_validation']
  return {
    id: node.id.slice(0, maxNodeIdLength),
    version: version === undefined ? undefined : { major: version.majorNumber, minor: version.minorNumber },
    disableSpiffeCertValidation: parseSwitch(disabled?.boolValue ?? disabled?.stringValue)
  }
}

export function readSotwRequest (request: DiscoveryRequest): SotwRequest {
  return {
    names: request.resourceNames,
    nonce: request.responseNonce,
    refusal: readReason(request.errorDetail)
  }
}

export function readDeltaRequest (request: DeltaDiscoveryRequest): DeltaRequest {
  return {
    subscribe: request.resourceNamesSubscribe,
    unsubscribe: request.resourceNamesUnsubscribe,
    initialVersions: new Map(Object.entries(request.initialResourceVersions)),
    nonce: request.responseNonce,
    refusal: readReason(request.errorDetail)
  }
}

function readReason (status: Status | undefined): string | undefined {
  return status?.message.slice(0, maxReasonLength)
}
