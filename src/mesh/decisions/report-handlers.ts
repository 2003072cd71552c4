import type { CallContext } from '../../rpc/call.ts'
import type { AccessLogServiceHandlers, StreamAccessLogsMessage } from '../../wire/generated/envoy-access-log-service.ts'
import { type ReportedDecision, readHttpReport, readTcpReport } from './read-report.ts'

export interface ReportDeps {
  /** Whether the caller is the node's proxy. @throws {SpiffeError} `proxy_not_admitted` */
  readonly admit: (context: CallContext) => Promise<void>
  readonly onReport: (decision: ReportedDecision) => void
  /** Ends streams, which otherwise last as long as the proxy. */
  readonly stopping: AbortSignal
}

/** Envoy's access log service (version 3) for the node's own proxy: what it decided by the policies that it was told. */
export function reportHandlers ({ admit, onReport, stopping }: ReportDeps): AccessLogServiceHandlers<CallContext> {
  return {
    async streamAccessLogs (messages, context) {
      await admit(context)
      // What is left of it ends with the call.
      await Promise.race([take(messages), aborted(stopping, context.signal)])
      return {}
    }
  }

  async function take (messages: AsyncIterable<StreamAccessLogsMessage>): Promise<void> {
    for await (const { httpLogs, tcpLogs } of messages) {
      for (const entry of httpLogs?.logEntry ?? []) report(readHttpReport(entry))
      for (const entry of tcpLogs?.logEntry ?? []) report(readTcpReport(entry))
    }
  }

  function report (decision: ReportedDecision | undefined): void {
    if (decision !== undefined) onReport(decision)
  }
}

/** @param over when nobody waits any more */
function aborted (signal: AbortSignal, over: AbortSignal): Promise<void> {
  return new Promise(resolve => {
    if (signal.aborted) resolve()
    else signal.addEventListener('abort', () => resolve(), { once: true, signal: over })
  })
}
