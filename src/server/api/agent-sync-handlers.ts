import { SpiffeError } from '../../spiffe/errors.ts'
import type { SpiffeId } from '../../spiffe/spiffe-id.ts'
import type { CallContext } from '../../rpc/call.ts'
import { encodeBundle } from '../../wire/bundle-codec.ts'
import { decodeCursor, encodeCursor } from '../../wire/cursor-codec.ts'
import { agentEntryMask, encodeEntry } from '../../wire/entry-codec.ts'
import type { AgentSyncHandlers, SyncRequest, SyncResponseInit } from '../../wire/generated/agent-sync.ts'
import type { Authorizer } from '../authorize.ts'
import type { AgentFeed, FeedStep } from '../push/agent-feed.ts'
import type { AgentFeeds } from '../push/agent-feeds.ts'
import type { ProgressReporter } from '../push/progress-reporter.ts'
import type { Replica } from '../replication/replica.ts'
import type { Registrations } from '../registrations.ts'
import { revocationPages } from './revocation-pages.ts'

export interface AgentSyncDeps {
  readonly replica: Replica
  readonly feeds: AgentFeeds
  readonly progress: ProgressReporter
  readonly registrations: Registrations
  readonly authorizer: Authorizer
}

/** Entries or ids per message; some hundred bytes each. */
const pageSize = 500
/** Of what an agent says it could not have signed, so many are remembered. */
const mostUnserved = 100

/**
 * `assay.agent.v1.AgentSync`: the whole state at first, or what the agent missed, then each change as it comes. The next message is made
 * when the one before has left, so that a slow agent is told of the newest state and not of each one between.
 */
export function agentSyncHandlers (deps: AgentSyncDeps): AgentSyncHandlers<CallContext> {
  const { replica, feeds, authorizer } = deps
  return {
    async * sync (requests, context) {
      const { id, agentVersion } = authorizer.agentOf(context)
      const stream = requests[Symbol.asyncIterator]()
      const first = await stream.next()
      if (first.done === true) return
      replica.requireFresh()
      await rememberVersion(id, agentVersion, first.value.agentVersion, deps)
      using feed = await feeds.open(id, decodeCursor(first.value.resume))
      deps.progress.report(id, { state: 'acknowledged', cursor: { ...replica.cursor, number: 0 }, unservedEntryIds: [] })
      context.log.debug({ agent: id, resumes: first.value.resume?.number.toString() }, 'agent follows')
      void readAcknowledgements(stream, feed, id, deps).catch((error: unknown) => feed.fail(error as Error))
      try {
        while (!context.signal.aborted) {
          checkAgent(replica, id)
          const step = feed.next()
          if (step === undefined) await feed.untilTouched(context.signal)
          else yield * pages(step)
        }
      } finally {
        if (feeds.openOf(id) <= 1) deps.progress.left(id)
      }
    }
  }
}

async function readAcknowledgements (
  stream: AsyncIterator<SyncRequest>, feed: AgentFeed, id: SpiffeId, { progress }: AgentSyncDeps
): Promise<void> {
  for (let next = await stream.next(); next.done !== true; next = await stream.next()) {
    const cursor = decodeCursor(next.value.acknowledged)
    if (cursor === undefined) continue
    const unservedEntryIds = next.value.unservedEntryIds.slice(0, mostUnserved)
    feed.acknowledge(cursor, unservedEntryIds)
    progress.report(id, { state: 'acknowledged', cursor, unservedEntryIds })
  }
}

/** @throws {SpiffeError} `agent_not_attested`, `agent_banned`: the stream ends with the agent's right to it */
function checkAgent (replica: Replica, id: SpiffeId): void {
  const agent = replica.agents.get(id)
  if (agent === undefined) throw new SpiffeError('agent_not_attested', `agent ${id} is not attested`)
  if (agent.banned) throw new SpiffeError('agent_banned', `agent ${id} is banned`)
}

async function rememberVersion (id: SpiffeId, known: string, reported: string, { registrations }: AgentSyncDeps): Promise<void> {
  if (reported !== '' && reported !== known) await registrations.setAgentVersion(id, reported)
}

function * pages (step: FeedStep): Generator<SyncResponseInit> {
  const { cursor, snapshot, entries, removedEntryIds, bundles, removedTrustDomains } = step
  const revocations = step.revocations === undefined ? [] : revocationPages(step.revocations)
  const count = Math.max(1, revocations.length, Math.ceil(Math.max(entries.length, removedEntryIds.length) / pageSize))
  for (let page = 0; page < count; page++) {
    const of = <T>(items: readonly T[]) => items.slice(page * pageSize, (page + 1) * pageSize)
    yield {
      cursor: encodeCursor(cursor),
      snapshot: snapshot && page === 0,
      more: page < count - 1,
      entries: of(entries).map(entry => encodeEntry(entry, agentEntryMask)),
      removedEntryIds: of(removedEntryIds),
      ...page < revocations.length ? { revocations: revocations[page] } : {},
      // Bundles come before the entries that need them.
      ...page === 0 ? { bundles: bundles.map(bundle => encodeBundle(bundle)), removedTrustDomains } : {}
    }
  }
}
