import type { CallContext } from '../rpc/call.ts'
import type { Clock } from '../runtime/clock.ts'
import type { WorkloadIdentity } from '../spiffe/svid.ts'
import type { Node } from '../wire/generated/envoy-core.ts'
import { answerStream } from './answer-stream.ts'
import { type EnvoyNode, unknownNode } from './envoy-node.ts'
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

/** One session's side of a stream. The node and its version are remembered from the first request that carries them. */
export function serveStream<Wire extends WireRequest, Request, Answer, Response> (
  options: ServeStreamOptions<Wire, Request, Answer, Response>
): AsyncGenerator<Response, void, undefined> {
  const { requests, states, context, session, viewOf, clock } = options
  let identity: WorkloadIdentity | undefined
  let node: EnvoyNode | undefined
  let typeUrl: string | undefined
  return answerStream({
    requests, states, context,
    accept (request) {
      const first = typeUrl === undefined
      typeUrl ??= request.typeUrl
      session.receive(options.read(request))
      const nodeBefore = node
      if (request.node !== undefined) node ??= readNode(request.node)
      session.node = node?.id ?? ''
      if (identity !== undefined && (first || node !== nodeBefore)) session.update(viewOf(identity, node ?? unknownNode))
    },
    take (state) {
      identity = state
      if (typeUrl !== undefined) session.update(viewOf(identity, node ?? unknownNode))
    },
    next () {
      const answer = session.next(clock.now())
      return answer === undefined ? undefined : options.encode(answer, typeUrl ?? '')
    },
    onPush: options.onPush
  })
}
