import type { DecisionLog } from '../authz/decision-log/decision-log.ts'
import type { CallContext } from '../rpc/call.ts'
import { SpiffeError } from '../spiffe/errors.ts'
import type { DecisionsHandlers } from '../wire/generated/agent-sync.ts'

/** Anybody may call again and again with the same ID. */
const mostBytes = 1_048_576

/** What the agent remembers of its node's decisions, for whoever may open its admin socket. */
export function decisionsHandlers (log: Pick<DecisionLog, 'find'>): DecisionsHandlers<CallContext> {
  return {
    async findDecisions ({ requestId, decisionId }) {
      if ((requestId === '') === (decisionId === '')) throw new SpiffeError('argument_invalid', 'give one of request_id and decision_id')
      const { decisions, remembered } = log.find(requestId === '' ? { decision: decisionId } : { request: requestId })
      const events: string[] = []
      let left = mostBytes
      for (const event of decisions) {
        const text = JSON.stringify(event)
        left -= Buffer.byteLength(text)
        if (left < 0) break
        events.push(text)
      }
      return { events, capacity: remembered.capacity, since: remembered.since ?? '' }
    }
  }
}
