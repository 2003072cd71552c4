import type { CallContext } from '../../src/rpc/call.ts'
import { silentLogger } from '../../src/runtime/logger.ts'

export interface FakeCallOptions {
  readonly metadata?: Readonly<Record<string, readonly string[]>>
  readonly signal?: AbortSignal
  /** Throws as the real one does when the caller is gone. */
  readonly check?: () => void
  readonly pid?: number
}

/** A call over a Unix socket, for handlers called in process. */
export function fakeCall (options: FakeCallOptions = {}): CallContext {
  const { metadata = {}, signal = new AbortController().signal, check = () => {}, pid = 1 } = options
  const peer = { pid, uid: 0, gid: 0, pinnedBy: 'pidfd', executableKnown: true, check } as const
  return {
    caller: { kind: 'unix', connection: 'test', peer, drop () {} },
    signal,
    method: '/test',
    metadata: new Map(Object.entries(metadata)),
    requestId: 'test-1',
    log: silentLogger
  }
}
