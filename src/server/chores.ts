import type { Clock } from '../runtime/clock.ts'
import type { Logger } from '../runtime/logger.ts'
import { isStop, runTasks } from '../runtime/tasks.ts'
import { codeOf } from '../spiffe/errors.ts'
import type { Stores } from '../storage/datastore.ts'
import type { Authorities } from './authorities.ts'
import type { GoneReporters } from './gone-reporters.ts'
import type { LeaseKeeper } from './replication/lease-keeper.ts'
import type { ServerConfig } from './server-config.ts'

export interface ChoreDeps {
  readonly caTtlSeconds: number
  readonly pruneAgents: ServerConfig['pruneAgents']
  readonly changesKeptMs: number
  readonly authorities: Pick<Authorities, 'rotateIfDue'>
  readonly lease: Pick<LeaseKeeper, 'stores'>
  readonly goneReporters: Pick<GoneReporters, 'sweep'>
  readonly clock: Clock
  readonly log: Logger
}

const longestRotationMs = 10_000
/** Looks at the clock in the life of a CA, at the least: what is due is due at parts of that life. */
const looksPerLife = 60
const pruneEveryMs = 300_000
const sweepEveryMs = 30_000
/** A SPIFFE ID whose revocation has expired is signed for again so soon after. */
const endRevocationsEveryMs = 10_000
const replicaKeptMs = 60_000
/** How far an agent was that was evicted: its streams may end a little later. */
const goneAgentKeptMs = 600_000

/**
 * What a trust domain needs done unasked, once and not by every replica: rotate authorities, drop what has expired. A failure is logged
 * and tried again; it ends nothing.
 */
export async function runChores (deps: ChoreDeps, signal: AbortSignal): Promise<void> {
  const { caTtlSeconds, pruneAgents, changesKeptMs, authorities, lease, goneReporters, clock, log } = deps
  const rotateEveryMs = Math.min(longestRotationMs, caTtlSeconds * 1000 / looksPerLife)
  await runTasks(signal, [
    signal => repeat(rotateEveryMs, 'authority rotation', () => authorities.rotateIfDue(), signal),
    signal => repeat(endRevocationsEveryMs, 'expiry of revocations', async () => {
      const ended = await lease.stores?.revocations.prune(clock.now()) ?? []
      const facts = ended.map(({ id, kind, subject }) => ({ revocation: id, kind, subject }))
      if (ended.length > 0) log.info({ ended: facts }, 'revocations have expired')
    }, signal),
    signal => repeat(pruneEveryMs, 'pruning', async () => {
      if (lease.stores !== undefined) await prune(lease.stores, changesKeptMs, clock.now(), log)
    }, signal),
    signal => repeat(pruneEveryMs, 'pruning of agents', async () => {
      if (pruneAgents === undefined) return
      const removed = await lease.stores?.agents.deleteExpired(before(clock.now(), pruneAgents.expiredForMs), pruneAgents) ?? []
      if (removed.length > 0) log.info({ agents: removed.map(({ agent }) => agent.id) }, 'agents removed whose SVIDs ended long ago')
    }, signal),
    signal => repeat(sweepEveryMs, 'removing endpoints', () => goneReporters.sweep(lease.stores), signal)
  ])

  async function repeat (everyMs: number, name: string, chore: () => Promise<void>, signal: AbortSignal): Promise<void> {
    for (;;) {
      await clock.sleep(everyMs, signal)
      try {
        await chore()
      } catch (error) {
        if (isStop(error, signal)) throw error
        if (codeOf(error) === 'lease_lost') log.info(`${name} is another replica's now`)
        else log.error({ err: error }, `${name} failed; trying again later`)
      }
    }
  }
}

async function prune (stores: Stores, changesKeptMs: number, now: Date, log: Logger): Promise<void> {
  const { entries, joinTokens, issuedSvids, authorities, replicas, progress, log: changes } = stores
  const removed = await entries.deleteExpired(now)
  if (removed.length > 0) log.info({ entries: removed.map(entry => entry.id) }, 'expired entries removed')
  await joinTokens.prune(now)
  await issuedSvids.prune(now)
  await authorities.prune(now)
  await replicas.prune(before(now, replicaKeptMs))
  await progress.prune(before(now, goneAgentKeptMs))
  await changes.prune(before(now, changesKeptMs))
}

function before (now: Date, ms: number): Date { return new Date(now.getTime() - ms) }
