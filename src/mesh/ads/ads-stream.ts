import type { CallContext } from '../../rpc/call.ts'
import type { Clock } from '../../runtime/clock.ts'
import { answerStream } from '../../sds/answer-stream.ts'
import { readNode } from '../../sds/read-request.ts'
import type { ResourceView } from '../../sds/secret-resource.ts'
import type { Node } from '../../wire/generated/envoy-core.ts'

/** Type URL → what an Envoy may have of it, in the order in which it must hear of changes: what is used before what uses it. */
export type AdsViews = ReadonlyMap<string, ResourceView>

interface WireRequest { readonly node: Node | undefined, readonly typeUrl: string }

/** One type's part in a stream, of either protocol. */
export interface TypeSession<Wire, Response> {
  node: string
  readonly settled: boolean
  receive (request: Wire): void
  update (view: ResourceView): void
  next (at: Date): Response | undefined
}

export interface AdsStreamOptions<Wire extends WireRequest, Response> {
  readonly requests: AsyncIterable<Wire>
  readonly states: (signal: AbortSignal) => AsyncIterable<AdsViews>
  readonly context: CallContext
  readonly clock: Clock
  readonly openSession: (typeUrl: string) => TypeSession<Wire, Response>
  /** The proxy has been told all of a state, and has answered. */
  readonly onSettled: (views: AdsViews) => void
}

/** One aggregated stream: each type of resource has a session of its own, so that a refusal of one type holds up no other. */
export function serveAdsStream<Wire extends WireRequest, Response> (
  options: AdsStreamOptions<Wire, Response>
): AsyncGenerator<Response, void, undefined> {
  const { requests, states, context, clock } = options
  const sessions = new Map<string, TypeSession<Wire, Response>>()
  let views: AdsViews | undefined
  let node = ''
  return answerStream({
    requests, states, context,
    accept (request) {
      if (request.node !== undefined && node === '') node = readNode(request.node).id
      const { typeUrl } = request
      const before = sessions.get(typeUrl)
      const session = before ?? options.openSession(typeUrl)
      session.node = node
      session.receive(request)
      if (before !== undefined) return
      sessions.set(typeUrl, session)
      if (views !== undefined) session.update(views.get(typeUrl) ?? nothing)
    },
    take (state) {
      views = state
      for (const [typeUrl, session] of sessions) session.update(views.get(typeUrl) ?? nothing)
    },
    next () {
      for (const typeUrl of new Set([...views?.keys() ?? [], ...sessions.keys()])) {
        const answer = sessions.get(typeUrl)?.next(clock.now())
        if (answer !== undefined) return answer
      }
      return undefined
    },
    onIdle () {
      if (views !== undefined && [...sessions.values()].every(session => session.settled)) options.onSettled(views)
    }
  })
}

const nothing: ResourceView = { allNames: new Set(), find: () => ({ kind: 'absent' }) }
