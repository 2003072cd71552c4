import { isEntryId } from '../../spiffe/entry-id.ts'
import type { SpiffeId } from '../../spiffe/spiffe-id.ts'
import type { Cursor } from '../../storage/change-log.ts'
import type { CallContext } from '../../rpc/call.ts'
import { documentPages } from '../../wire/policy-codec.ts'
import { encodeBundle } from '../../wire/bundle-codec.ts'
import { decodeCursor, encodeCursor } from '../../wire/cursor-codec.ts'
import { agentEntryMask, encodeEntry } from '../../wire/entry-codec.ts'
import { encoded, type Encoded } from '../../wire/encoded.ts'
import type { PolicyDocumentInit } from '../../wire/generated/assay-types.ts'
import {
  SyncResponse, type AgentSyncHandlers, type SelectedIdsInit, type ServedPolicies, type SyncRequest, type SyncResponseInit
} from '../../wire/generated/agent-sync.ts'
import { encodeEndpoint, encodeService } from '../../wire/service-codec.ts'
import type { PolicyStep } from '../push/policy-feed.ts'
import type { AgentVersions } from '../agent-versions.ts'
import type { Authorizer } from '../authorize.ts'
import type { EndpointReport, EndpointReports } from '../endpoint-reports.ts'
import type { AgentFeed, FeedStep } from '../push/agent-feed.ts'
import { nothingOfServices, type MeshStep } from '../push/mesh-feed.ts'
import type { AgentFeeds } from '../push/agent-feeds.ts'
import type { ProgressReporter } from '../push/progress-reporter.ts'
import type { Replica } from '../replication/replica.ts'
import { revocationPages } from './revocation-pages.ts'

export interface AgentSyncDeps {
  readonly replica: Replica
  readonly feeds: AgentFeeds
  readonly progress: ProgressReporter
  readonly reports: EndpointReports
  readonly versions: AgentVersions
  readonly authorizer: Authorizer
}

/** Entries or ids per message; some hundred bytes each. */
const pageSize = 500
/** Services per message; at most some ten thousand bytes each. */
const servicePageSize = 50
/** Of what an agent says it could not have signed, so many are remembered. */
const mostUnserved = 100
/** Of why an agent does not serve a set of policies, in characters. */
const longestRefusal = 2_000
/** SPIFFE IDs per message. */
const idPageSize = 5_000

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
      await deps.versions.remember(id, agentVersion, first.value.agentVersion)
      const { mesh } = first.value
      const policies = readServed(first.value.policies)
      using feed = await feeds.open(id, decodeCursor(first.value.resume), { mesh, policies })
      using report = mesh ? deps.reports.open(id) : undefined
      if (first.value.endpointsChanged) report?.say(first.value.endpoints)
      deps.progress.report(id, {
        state: 'acknowledged', cursor: { ...replica.cursor, number: 0 }, unservedEntryIds: [], mesh, policies
      })
      context.log.debug({ agent: id, resumes: first.value.resume?.number.toString() }, 'agent follows')
      void readRequests(stream, { feed, report, id, ...deps }).catch((error: unknown) => feed.fail(error as Error))
      try {
        while (!context.signal.aborted) {
          // The stream ends with the agent's right to it.
          replica.agents.standing(id)
          const step = feed.next()
          if (step === undefined) await feed.untilTouched(context.signal)
          else yield * messages(step)
        }
      } finally {
        if (feeds.openOf(id) <= 1) deps.progress.left(id)
      }
    }
  }
}

interface Following {
  readonly id: SpiffeId
  readonly feed: AgentFeed
  /** Of an agent that follows services. */
  readonly report: EndpointReport | undefined
  readonly progress: ProgressReporter
}

async function readRequests (stream: AsyncIterator<SyncRequest>, { id, feed, report, progress }: Following): Promise<void> {
  for (let next = await stream.next(); next.done !== true; next = await stream.next()) {
    if (next.value.endpointsChanged) report?.say(next.value.endpoints)
    const cursor = decodeCursor(next.value.acknowledged)
    if (cursor === undefined) continue
    const unservedEntryIds = next.value.unservedEntryIds.filter(isEntryId).slice(0, mostUnserved)
    feed.acknowledge(cursor, unservedEntryIds, readServed(next.value.policies))
    progress.report(id, { state: 'acknowledged', cursor, unservedEntryIds, mesh: feed.mesh, policies: feed.served })
  }
}

function readServed (message: ServedPolicies | undefined) {
  if (message === undefined) return undefined
  const { version, revision, refusal } = message
  // What an agent says must fit a column.
  return {
    version: Math.min(Number(version), Number.MAX_SAFE_INTEGER),
    revision,
    refusal: refusal.slice(0, longestRefusal).toWellFormed().replaceAll('\0', ' ')
  }
}

/**
 * What the services of a step are about is encoded once for all agents that are told the same: those that follow closely get the same
 * change at the same place of the log, those that connect the same whole state.
 */
function * messages (step: FeedStep): Generator<SyncResponseInit | Encoded<SyncResponse>> {
  const { cursor, snapshot, entries, removedEntryIds, bundles, removedTrustDomains, revocations, policies, mesh } = step
  const items = entries.length + removedEntryIds.length + bundles.length + removedTrustDomains.length
  if (mesh === nothingOfServices && policies === undefined) {
    yield * pages(step, { more: false })
  } else if (!snapshot && revocations === undefined && policies === undefined && items === 0) {
    yield * changePages(mesh, cursor)
  } else {
    yield * pages(step, { more: true })
    if (policies !== undefined) yield * policyPages(policies, cursor)
    if (mesh !== nothingOfServices) yield * partPages(mesh, cursor)
    yield { cursor: encodeCursor(cursor) }
  }
}

function * pages (step: FeedStep, { more }: { readonly more: boolean }): Generator<SyncResponseInit> {
  const { cursor, snapshot, entries, removedEntryIds, bundles, removedTrustDomains } = step
  const revocations = step.revocations === undefined ? [] : revocationPages(step.revocations)
  const count = Math.max(1, revocations.length, Math.ceil(Math.max(entries.length, removedEntryIds.length) / pageSize))
  for (let page = 0; page < count; page++) {
    const of = <T>(items: readonly T[]) => items.slice(page * pageSize, (page + 1) * pageSize)
    yield {
      cursor: encodeCursor(cursor),
      snapshot: snapshot && page === 0,
      more: more || page < count - 1,
      entries: of(entries).map(entry => encodeEntry(entry, agentEntryMask)),
      removedEntryIds: of(removedEntryIds),
      ...page < revocations.length ? { revocations: revocations[page] } : {},
      // Bundles come before the entries that need them.
      ...page === 0 ? { bundles: bundles.map(bundle => encodeBundle(bundle)), removedTrustDomains } : {}
    }
  }
}

interface Shared { readonly cursor: Cursor, readonly pages: readonly Encoded<SyncResponse>[] }
const changes = new WeakMap<MeshStep, Shared>()
const parts = new WeakMap<MeshStep, readonly Encoded<SyncResponse>[]>()

/** A whole step. */
function changePages (mesh: MeshStep, cursor: Cursor): readonly Encoded<SyncResponse>[] {
  const known = changes.get(mesh)
  if (known?.cursor.epoch === cursor.epoch && known.cursor.number === cursor.number) return known.pages
  const pages = [...servicePages(mesh, cursor, { more: false })].map(page => encoded(SyncResponse, page))
  changes.set(mesh, { cursor, pages })
  return pages
}

/** Part of a step; its end says up to where it leads, so that the place in these messages may be that of another agent's step. */
function partPages (mesh: MeshStep, cursor: Cursor): readonly Encoded<SyncResponse>[] {
  const known = parts.get(mesh) ?? [...servicePages(mesh, cursor, { more: true })].map(page => encoded(SyncResponse, page))
  parts.set(mesh, known)
  return known
}

const policyParts = new WeakMap<PolicyStep, readonly Encoded<SyncResponse>[]>()

/** Part of a step, as with services. */
function policyPages (step: PolicyStep, cursor: Cursor): readonly Encoded<SyncResponse>[] {
  const known = policyParts.get(step)
  if (known !== undefined) return known
  const { whole, version, revision, texts, selected } = step
  const page = (content: { documents?: PolicyDocumentInit[], selected?: SelectedIdsInit[] }, first = false) => encoded(SyncResponse, {
    cursor: encodeCursor(cursor), more: true, policies: { whole: whole && first, version, revision, ...content }
  })
  const pages = [
    ...[...documentPages(texts)].map((documents, index) => page({ documents }, index === 0)),
    ...selected.flatMap(({ selectors, ids, removedIds }) => {
      const count = Math.max(1, Math.ceil(Math.max(ids.length, removedIds.length) / idPageSize))
      return Array.from({ length: count }, (_, index) => {
        const of = (all: readonly string[]) => all.slice(index * idPageSize, (index + 1) * idPageSize)
        return page({ selected: [{ selectors, ids: of(ids), removedIds: of(removedIds) }] })
      })
    })
  ]
  policyParts.set(step, pages)
  return pages
}

function * servicePages (mesh: MeshStep, cursor: Cursor, { more }: { readonly more: boolean }): Generator<SyncResponseInit> {
  const { services, removedServiceIds, endpoints, removedEndpointIds } = mesh
  const longest = Math.max(removedServiceIds.length, endpoints.length, removedEndpointIds.length)
  const count = Math.max(Math.ceil(longest / pageSize), Math.ceil(services.length / servicePageSize))
  for (let page = 0; page < count; page++) {
    const of = <T>(items: readonly T[], size = pageSize) => items.slice(page * size, (page + 1) * size)
    yield {
      cursor: encodeCursor(cursor),
      more: more || page < count - 1,
      services: of(services, servicePageSize).map(encodeService),
      removedServiceIds: of(removedServiceIds),
      endpoints: of(endpoints).map(encodeEndpoint),
      removedEndpointIds: of(removedEndpointIds)
    }
  }
}
