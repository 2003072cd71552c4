import { checkCaller, type CallContext } from '../rpc/call.ts'
import { Inbox } from './inbox.ts'

export interface AnswerStreamOptions<Wire, State, Response> {
  readonly requests: AsyncIterable<Wire>
  readonly states: (signal: AbortSignal) => AsyncIterable<State>
  readonly context: CallContext
  readonly accept: (request: Wire) => void
  readonly take: (state: State) => void
  /** The next answer that is due, of the newest of both. */
  readonly next: () => Response | undefined
  /** An answer is sent. */
  readonly onPush?: () => void
  /** Nothing is due any more. */
  readonly onIdle?: () => void
}

/**
 * Answers what Envoy asks and what changes meanwhile, always from the newest of both; the caller is checked again before each push
 * (WLAPI-39). Ends with either source.
 */
export async function * answerStream<Wire, State, Response> (
  options: AnswerStreamOptions<Wire, State, Response>
): AsyncGenerator<Response, void, undefined> {
  const { context, next } = options
  const stop = new AbortController()
  using inbox = new Inbox(options.requests, options.states(AbortSignal.any([context.signal, stop.signal])))
  const acceptAll = (first = inbox.poll()) => {
    for (let item = first; item !== undefined; item = inbox.poll()) {
      if (item.kind === 'request') options.accept(item.request)
      else options.take(item.state)
    }
  }
  try {
    for (let item = await inbox.take(); item !== undefined; item = await inbox.take()) {
      acceptAll(item)
      for (let answer = next(); answer !== undefined; answer = next()) {
        if (context.signal.aborted) return
        checkCaller(context)
        options.onPush?.()
        yield answer
        acceptAll()
      }
      options.onIdle?.()
    }
  } finally {
    stop.abort()
  }
}
