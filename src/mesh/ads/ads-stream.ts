import { checkCaller, type CallContext } from '../../rpc/call.ts'
import type { Clock } from '../../runtime/clock.ts'
import { Inbox } from '../../sds/inbox.ts'
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
export async function * serveAdsStream<Wire extends WireRequest, Response> (
  options: AdsStreamOptions<Wire, Response>
): AsyncGenerator<Response, void, undefined> {
  const { context, clock } = options
  const stop = new AbortController()
  using inbox = new Inbox(options.requests, options.states(AbortSignal.any([context.signal, stop.signal])))
  const sessions = new Map<string, TypeSession<Wire, Response>>()
  let views: AdsViews = new Map()
  let known = false
  let node = ''

  const accept = (request: Wire) => {
    if (request.node !== undefined && node === '') node = readNode(request.node).id
    const { typeUrl } = request
    const before = sessions.get(typeUrl)
    const session = before ?? options.openSession(typeUrl)
    session.node = node
    session.receive(request)
    if (before !== undefined) return
    sessions.set(typeUrl, session)
    if (known) session.update(views.get(typeUrl) ?? nothing)
  }
  const acceptAll = (first = inbox.poll()) => {
    for (let item = first; item !== undefined; item = inbox.poll()) {
      if (item.kind === 'request') accept(item.request)
      else {
        views = item.state
        known = true
        for (const [typeUrl, session] of sessions) session.update(views.get(typeUrl) ?? nothing)
      }
    }
  }
  const next = (): Response | undefined => {
    for (const typeUrl of new Set([...views.keys(), ...sessions.keys()])) {
      const answer = sessions.get(typeUrl)?.next(clock.now())
      if (answer !== undefined) return answer
    }
    return undefined
  }

  try {
    for (let item = await inbox.take(); item !== undefined; item = await inbox.take()) {
      acceptAll(item)
      for (let answer = next(); answer !== undefined; answer = next()) {
        if (context.signal.aborted) return
        checkCaller(context)
        yield answer
        acceptAll()
      }
      if (known && [...sessions.values()].every(session => session.settled)) options.onSettled(views)
    }
  } finally {
    stop.abort()
  }
}

const nothing: ResourceView = { allNames: new Set(), find: () => ({ kind: 'absent' }) }
