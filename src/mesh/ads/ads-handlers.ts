import { randomBytes } from 'node:crypto'
import type { CallContext } from '../../rpc/call.ts'
import type { Clock } from '../../runtime/clock.ts'
import { DeltaSession } from '../../sds/delta-session.ts'
import { secretTypeUrl } from '../../sds/encode-secret.ts'
import { readDeltaRequest, readSotwRequest } from '../../sds/read-request.ts'
import { reportEvents } from '../../sds/report-events.ts'
import type { SdsEvents, SdsKind } from '../../sds/sds-events.ts'
import type {
  AggregatedDiscoveryServiceHandlers, DeltaDiscoveryRequest, DeltaDiscoveryResponseInit, DiscoveryRequest, DiscoveryResponseInit
} from '../../wire/generated/envoy-sds.ts'
import { type AdsViews, serveAdsStream, type TypeSession } from './ads-stream.ts'
import { SotwAdsSession } from './sotw-ads-session.ts'

export interface AdsDeps {
  /** Whether the caller is the node's proxy. @throws {SpiffeError} `proxy_not_admitted` */
  readonly admit: (context: CallContext) => Promise<void>
  readonly states: (signal: AbortSignal) => AsyncIterable<AdsViews>
  readonly clock: Clock
  /** A resource was taken over, or refused. */
  readonly onStatus?: ((status: ResourceStatus) => void) | undefined
  /** An admitted stream opens. */
  readonly onStream?: (() => ProxyStream) | undefined
}

export interface ProxyStream extends Disposable {
  /** Its proxy has been told all of a state, and has answered. */
  settled (views: AdsViews): void
}

export interface ResourceStatus {
  readonly typeUrl: string
  /** `undefined`: a whole answer was refused. */
  readonly name: string | undefined
  /** `undefined`: its removal. */
  readonly version: string | undefined
  /** Envoy's reason, if it refused. */
  readonly refusal: string | undefined
  /** Envoy does not ask for it any more. */
  readonly isLetGo?: boolean
}

/** Envoy's aggregated discovery (xDS, version 3) for the node's own proxy. */
export function adsHandlers ({ admit, states, clock, onStatus, onStream }: AdsDeps): AggregatedDiscoveryServiceHandlers<CallContext> {
  const eventsOf = (kind: SdsKind, typeUrl: string, context: CallContext): SdsEvents => {
    const log = context.log.child({ type: typeUrl.slice(typeUrl.lastIndexOf('.') + 1) })
    const report = reportEvents(kind, { log, metrics: undefined, onAcknowledged: undefined })
    return {
      ...report,
      acknowledged (event) {
        report.acknowledged(event)
        onStatus?.({ typeUrl, name: event.name, version: event.version, refusal: undefined })
      },
      refused (event) {
        report.refused(event)
        onStatus?.({ typeUrl, name: event.name, version: event.version, refusal: event.message })
      }
    }
  }
  async function * admitted<T> (
    context: CallContext, serve: (onSettled: (views: AdsViews) => void) => AsyncIterable<T>
  ): AsyncGenerator<T, void, undefined> {
    await admit(context)
    using stream = onStream?.()
    yield * serve(views => stream?.settled(views))
  }
  return {
    deltaAggregatedResources: (requests, context) => admitted(context, onSettled => serveAdsStream({
      requests, context, states, clock, onSettled,
      openSession: typeUrl => deltaSession(typeUrl, eventsOf('delta', typeUrl, context), {
        onHeld: (name, version) => onStatus?.({ typeUrl, name, version, refusal: undefined }),
        onLetGo: name => onStatus?.({ typeUrl, name, version: undefined, refusal: undefined, isLetGo: true })
      })
    })),
    streamAggregatedResources: (requests, context) => admitted(context, onSettled => serveAdsStream({
      requests, context, states, clock, onSettled, openSession: typeUrl => sotwSession(typeUrl, eventsOf('sotw', typeUrl, context))
    }))
  }
}

/** Of one type on the stream of a node's own proxy: each workload has a few, each new connection of a host's process one for a moment. */
const mostNames = 50_000

interface Holdings {
  /** An Envoy that an earlier agent left has this, and is not told of it again unless it changed. */
  readonly onHeld: (name: string, version: string) => void
  readonly onLetGo: (name: string) => void
}

/** One resource per answer, because a refusal names nothing. */
function deltaSession (
  typeUrl: string, events: SdsEvents, { onHeld, onLetGo }: Holdings
): TypeSession<DeltaDiscoveryRequest, DeltaDiscoveryResponseInit> {
  const session = new DeltaSession({ newNonce, events, mostNames })
  let begun = false
  return {
    set node (node: string) { session.node = node },
    get settled () { return session.settled },
    receive (request) {
      const read = readDeltaRequest(request)
      session.receive(read)
      if (!begun) read.initialVersions.forEach((version, name) => onHeld(name, version))
      begun = true
      // A secret's refusal is told of even after its listener has gone.
      if (typeUrl !== secretTypeUrl) read.unsubscribe.forEach(name => onLetGo(name))
    },
    update: view => session.update(view),
    next (at) {
      const answer = session.next(at)
      if (answer === undefined) return undefined
      const { nonce, resource, removed } = answer
      const resources = resource === undefined ? []
        : [{ name: resource.name, version: resource.version, resource: { typeUrl, value: resource.value } }]
      return { nonce, typeUrl, resources, removedResources: removed }
    }
  }
}

function sotwSession (typeUrl: string, events: SdsEvents): TypeSession<DiscoveryRequest, DiscoveryResponseInit> {
  const session = new SotwAdsSession({ newNonce, events })
  return {
    set node (node: string) { session.node = node },
    get settled () { return session.settled },
    receive: request => session.receive(readSotwRequest(request)),
    update: view => session.update(view),
    next (at) {
      const answer = session.next(at)
      if (answer === undefined) return undefined
      return {
        versionInfo: answer.version, nonce: answer.nonce, typeUrl, resources: answer.resources.map(({ value }) => ({ typeUrl, value }))
      }
    }
  }
}

function newNonce (): string { return randomBytes(4).toString('hex') }
