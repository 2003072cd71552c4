import { randomBytes } from 'node:crypto'
import { checkCaller, type CallContext } from '../rpc/call.ts'
import type { Clock } from '../runtime/clock.ts'
import { firstOf } from '../runtime/first-of.ts'
import { SpiffeError } from '../spiffe/errors.ts'
import type { WorkloadIdentity } from '../spiffe/svid.ts'
import type { DeltaDiscoveryResponseInit, DiscoveryResponseInit, SecretDiscoveryServiceHandlers } from '../wire/generated/envoy-sds.ts'
import { type DeltaAnswer, DeltaSession } from './delta-session.ts'
import { secretTypeUrl } from './encode-secret.ts'
import { type EnvoyNode, unknownNode, validationFormFor } from './envoy-node.ts'
import { openSecretViews } from './identity-secrets.ts'
import type { AttestWorkload, IdentitySource } from './identity-source.ts'
import { checkNames } from './name-limits.ts'
import { readDeltaRequest, readNode, readSotwRequest } from './read-request.ts'
import { reportEvents } from './report-events.ts'
import { defaultAliases, type SdsAliases } from './resource-names.ts'
import type { SdsDelivery, SdsKind, SdsMetrics } from './sds-events.ts'
import type { SecretResource } from './secret-resource.ts'
import { selectSecrets } from './select-secrets.ts'
import { serveStream } from './serve-stream.ts'
import { type SotwAnswer, SotwSession } from './sotw-session.ts'

export interface SdsDeps {
  readonly attestWorkload: AttestWorkload
  readonly identities: IdentitySource
  readonly clock: Clock
  readonly aliases?: SdsAliases | undefined
  /** The configuration's `sds.disable_spiffe_cert_validation`; a node's metadata wins. */
  readonly disableSpiffeCertValidation?: boolean | undefined
  /** Runs before anything else on each call, e.g. to demand the Workload API's security header here too (AMB-13). Throws to refuse. */
  readonly admit?: ((context: CallContext) => void) | undefined
  readonly metrics?: SdsMetrics | undefined
  /** Where each Envoy stands: for convergence. */
  readonly onAcknowledged?: ((delivery: SdsDelivery) => void) | undefined
}

/** Envoy's secret discovery, version 3, on the same facts as the Workload API (spire-surface §4). */
export function sdsHandlers (deps: SdsDeps): SecretDiscoveryServiceHandlers<CallContext> {
  const { clock, identities, metrics } = deps
  const aliases = deps.aliases ?? defaultAliases
  const secretViewOf = openSecretViews(aliases)
  const viewOf = (identity: WorkloadIdentity, node: EnvoyNode) =>
    secretViewOf(identity, validationFormFor(node, deps.disableSpiffeCertValidation ?? false))
  const eventsOf = (kind: SdsKind, { log }: CallContext) => reportEvents(kind, { log, metrics, onAcknowledged: deps.onAcknowledged })

  /** Attests the caller, counts the stream while it lasts. */
  async function * opened<T> (
    kind: SdsKind, context: CallContext, serve: (watch: Watch) => AsyncIterable<T>
  ): AsyncGenerator<T, void, undefined> {
    deps.admit?.(context)
    const selectors = await deps.attestWorkload(context)
    metrics?.streams(kind, 1)
    try {
      yield * serve(signal => identities.watch(selectors, signal))
    } finally {
      metrics?.streams(kind, -1)
    }
  }

  return {
    streamSecrets: (requests, context) => opened('sotw', context, states => serveStream({
      requests, context, states, viewOf, clock,
      session: new SotwSession({ aliases, newNonce, events: eventsOf('sotw', context) }),
      read: readSotwRequest,
      encode: encodeSotwAnswer,
      onPush: () => metrics?.pushed('sotw')
    })),

    deltaSecrets: (requests, context) => opened('delta', context, states => serveStream({
      requests, context, states, viewOf, clock,
      session: new DeltaSession({ newNonce, events: eventsOf('delta', context) }),
      read: readDeltaRequest,
      encode: encodeDeltaAnswer,
      onPush: () => metrics?.pushed('delta')
    })),

    async fetchSecrets (request, context) {
      deps.admit?.(context)
      checkNames(request.resourceNames)
      const identity = await firstOf(identities.watch(await deps.attestWorkload(context), context.signal))
      if (identity === undefined) throw new SpiffeError('cancelled', 'the call ended before the identities were there')
      const node = request.node === undefined ? unknownNode : readNode(request.node)
      const held = selectSecrets(viewOf(identity, node), request.resourceNames, aliases, clock.now())
      const events = eventsOf('fetch', context)
      const resources = held.flatMap(one => {
        if (one.kind === 'usable') return [toAny(one.resource)]
        events.heldBack({ node: node.id, name: one.name, reason: one.reason })
        return []
      })
      checkCaller(context)
      metrics?.pushed('fetch')
      return { resources, typeUrl: request.typeUrl }
    }
  }
}

type Watch = (signal: AbortSignal) => AsyncIterable<WorkloadIdentity>

function newNonce (): string {
  return randomBytes(4).toString('hex')
}

function encodeSotwAnswer (answer: SotwAnswer, typeUrl: string): DiscoveryResponseInit {
  return { versionInfo: answer.version, nonce: answer.nonce, typeUrl, resources: answer.resources.map(toAny) }
}

function encodeDeltaAnswer ({ nonce, resource, removed }: DeltaAnswer, typeUrl: string): DeltaDiscoveryResponseInit {
  const resources = resource === undefined ? [] : [{ name: resource.name, version: resource.version, resource: toAny(resource) }]
  return { nonce, typeUrl: typeUrl === '' ? secretTypeUrl : typeUrl, resources, removedResources: removed }
}

function toAny (resource: SecretResource): { typeUrl: string, value: Uint8Array } {
  return { typeUrl: secretTypeUrl, value: resource.value }
}
