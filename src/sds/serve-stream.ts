import { checkCaller, type CallContext } from '../rpc/call.ts'
import type { Clock } from '../runtime/clock.ts'
import type { WorkloadIdentity } from '../spiffe/svid.ts'
import type { Node } from '../wire/generated/envoy-core.ts'
import { type EnvoyNode, unknownNode } from './envoy-node.ts'
import { Inbox } from './inbox.ts'
import { readNode } from './read-request.ts'
import type { SecretView } from './secret-resource.ts'

/** What both kinds of xDS stream are, seen from outside. */
export interface Session<Request, Answer> {
  node: string
  receive (request: Request): void
  update (view: SecretView): void
  next (at: Date): Answer | undefined
}

interface WireRequest { readonly node: Node | undefined, readonly typeUrl: string }

export interface ServeStreamOptions<Wire extends WireRequest, Request, Answer, Response> {
  readonly requests: AsyncIterable<Wire>
  readonly states: (signal: AbortSignal) => AsyncIterable<WorkloadIdentity>
  readonly context: CallContext
  readonly session: Session<Request, Answer>
  readonly read: (request: Wire) => Request
  readonly encode: (answer: Answer, typeUrl: string) => Response
  readonly viewOf: (identity: WorkloadIdentity, node: EnvoyNode) => SecretView
  readonly clock: Clock
  readonly onPush: () => void
}

/**
 * Answers what Envoy asks and what changes meanwhile, always from the newest of both; the caller is checked again before each push
 * (WLAPI-39). The node and its version are remembered from the first request that carries them.
 */
export async function * serveStream<Wire extends WireRequest, Request, Answer, Response> (
  options: ServeStreamOptions<Wire, Request, Answer, Response>
): AsyncGenerator<Response, void, undefined> {
  const { context, session, viewOf, clock } = options
  const stop = new AbortController()
  using inbox = new Inbox(options.requests, options.states(AbortSignal.any([context.signal, stop.signal])))
  let identity: WorkloadIdentity | undefined
  let node: EnvoyNode | undefined
  let typeUrl: string | undefined

  const accept = (request: Wire) => {
    const first = typeUrl === undefined
    typeUrl ??= request.typeUrl
    session.receive(options.read(request))
    const nodeBefore = node
    if (request.node !== undefined) node ??= readNode(request.node)
    session.node = node?.id ?? ''
    if (identity !== undefined && (first || node !== nodeBefore)) session.update(viewOf(identity, node ?? unknownNode))
  }
  const acceptAll = (first = inbox.poll()) => {
    for (let item = first; item !== undefined; item = inbox.poll()) {
      if (item.kind === 'request') accept(item.request)
      else {
        identity = item.state
        if (typeUrl !== undefined) session.update(viewOf(identity, node ?? unknownNode))
      }
    }
  }

  try {
    for (let item = await inbox.take(); item !== undefined; item = await inbox.take()) {
      acceptAll(item)
      for (let answer = session.next(clock.now()); answer !== undefined; answer = session.next(clock.now())) {
        if (context.signal.aborted) return
        checkCaller(context)
        options.onPush()
        yield options.encode(answer, typeUrl ?? '')
        acceptAll()
      }
    }
  } finally {
    stop.abort()
  }
}
