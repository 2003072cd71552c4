import type { NodeAttestor } from '../attestation/node/node-attestor.ts'
import type { Clock } from '../runtime/clock.ts'
import type { Logger } from '../runtime/logger.ts'
import { runTasks } from '../runtime/tasks.ts'
import { timed, type Took } from '../runtime/took.ts'
import { version } from '../runtime/version.ts'
import { verifyServerWith } from '../rpc/verify-server.ts'
import { SpiffeError, type ErrorCode } from '../spiffe/errors.ts'
import type { AgentConfig } from './agent-config.ts'
import type { AgentEvents } from './agent-events.ts'
import type { AgentState, AgentStateStore } from './agent-state.ts'
import { AgentSvid, type Renewal } from './agent-svid.ts'
import type { CacheFile } from './cache/cache-file.ts'
import { CacheKeeper } from './cache/cache-keeper.ts'
import type { NodeCache } from './cache/node-cache.ts'
import { attestNode } from './attest-node.ts'
import { asEnding, endingOf } from './ends-agent.ts'
import { EntryIndex } from './entry-index.ts'
import { followServer } from './follow-server.ts'
import { joinTrustDomain } from './join.ts'
import type { JwtCache } from './jwt-cache.ts'
import type { NodeIdentities } from './node-identities.ts'
import type { NodePolicies } from './node-policies.ts'
import type { NodeMesh } from './node-services.ts'
import { rebootstrap, Rebootstrapped } from './rebootstrap.ts'
import type { Revocations } from './revocations.ts'
import { isAway, type ServerClient } from './server-client.ts'
import type { SvidCache } from './svid-cache.ts'

export interface AgentLifeOptions {
  readonly config: AgentConfig
  readonly store: AgentStateStore
  readonly attestor: NodeAttestor
  readonly identities: NodeIdentities
  readonly revocations: Revocations
  readonly policies: NodePolicies
  readonly svids: SvidCache
  readonly jwts: JwtCache
  /** `undefined`: this node has nothing to do with services. */
  readonly mesh?: NodeMesh | undefined
  readonly client: ServerClient
  /** `undefined` when nothing may be kept. */
  readonly cacheFile: CacheFile | undefined
  readonly onSynced: () => void
  /** There is a newer SVID of the agent's own. */
  readonly onRenewed: () => void
  readonly events?: AgentEvents | undefined
  readonly clock: Clock
  readonly log: Logger
  readonly random: () => number
}

/** For how long an agent that has ended stays to tell its streams that their identities are gone. */
const farewellMs = 250
/** Clocks jump: no wait is trusted for longer. */
const longestNapMs = 5000
/** An agent that could not stay one for so long may not be able to next time. */
const shortLifeMs = 60_000

/** An agent between its first attestation and its end: what it is, what keeps it in step with its servers, and what ends it. */
export class AgentLife {
  readonly #options: AgentLifeOptions
  #stored: AgentState | undefined
  #svid: AgentSvid | undefined
  #cache: NodeCache | undefined
  #trouble: SpiffeError | undefined
  /** Of the monotonic clock. */
  #untrustedSinceMs: number | undefined

  /** @param stored of an earlier run */
  constructor (options: AgentLifeOptions, stored: AgentState | undefined) {
    this.#options = options
    this.#stored = stored
    const svid = stored === undefined ? undefined : this.#svidOf(stored)
    if (svid !== undefined && svid.notAfter > options.clock.now()) this.#svid = svid
  }

  /** The agent's own SVID; `undefined` until it has joined. */
  get svid (): AgentSvid | undefined { return this.#svid }
  /** What keeps it from its servers, if that will not go away by itself. */
  get trouble (): SpiffeError | undefined { return this.#trouble }

  /** Serves what an earlier run kept, until the servers say better. */
  async restore (cache: NodeCache): Promise<void> {
    const { identities, revocations, svids, config, clock, log } = this.#options
    const nowSeconds = clock.now().getTime() / 1000
    const entries = new EntryIndex(cache.entries.filter(({ expiresAtSeconds: at }) => at === 0 || at > nowSeconds))
    const known = new Map(cache.revocations.map(revocation => [revocation.id, revocation]))
    if (revocations.take({ whole: true, revocations: known, removedIds: new Set() })) identities.dropRevoked(revocations.current.digests)
    const restored = config.keepWorkloadKeys ? svids.restore(cache.svids, entries) : 0
    const own = cache.bundles.find(({ trustDomain }) => trustDomain === config.trustDomain)
    // The agent's state is written first: of two bundles, its is the newer one. The cache's says more (what is tainted).
    const bundle = own?.sequenceNumber === identities.bundle.sequenceNumber ? own ?? identities.bundle : identities.bundle
    const federated = cache.bundles.filter(({ trustDomain }) => trustDomain !== config.trustDomain)
    identities.setBundles(bundle, new Map(federated.map(bundle => [bundle.trustDomain, bundle])))
    identities.setEntries(entries)
    if (cache.mesh !== undefined) this.#options.mesh?.services.restore(cache.mesh.services, cache.mesh.endpoints)
    if (cache.policies !== undefined) this.#options.policies.restore(cache.policies)
    await this.#options.policies.settled()
    this.#cache = cache
    const facts = { entries: entries.size, svids: restored, heardAt: cache.heardAt.toISOString() }
    log.info(facts, 'serving what was kept, until a server answers')
  }

  /**
   * Lives until the signal aborts; attests again where that needs nobody.
   * @param onIdentity each time the agent has an SVID of its own
   * @throws {SpiffeError} what ended it: `agent_banned`, `agent_expired`, …
   */
  async run (onIdentity: () => void, signal: AbortSignal): Promise<void> {
    const { clock, log, random } = this.#options
    for (let again = false; ; again = true) {
      const svid = this.#svid ??= await this.#join(again, signal)
      const sinceMs = clock.monotonicMs()
      log.info({ agent: svid.id, expires: svid.notAfter.toISOString() }, 'agent has its identity')
      this.#checkRebootstrap(svid)
      onIdentity()
      try {
        return await this.#keepInStep(svid, signal)
      } catch (error) {
        if (error instanceof Rebootstrapped) {
          await this.#beginAnew(error.state)
          continue
        }
        const ending = endingOf(error)
        if (ending === undefined) throw error
        if (!svid.canReattest || ending === 'agent_banned') throw await this.#end(error)
        log.warn({ code: ending, err: error }, 'the agent\'s SVID is of no use any more; attesting again')
        if (isWithdrawal(ending)) await this.#forget()
        this.#stored = undefined
        this.#svid = undefined
        // Two agents that take each other's place are not to do so as fast as they can.
        if (clock.monotonicMs() - sinceMs < shortLifeMs) await clock.sleep((0.5 + random() / 2) * longestNapMs, signal)
      }
    }
  }

  /** @param again whether workloads are served: then a disk that is full must not end that */
  async #join (again: boolean, signal: AbortSignal): Promise<AgentSvid> {
    const { config, attestor, store, identities, client, events, clock, log } = this.#options
    const stored = this.#stored
    const known = identities.bundle.x509Authorities.length > 0 ? identities.bundle : stored?.bundle
    try {
      const tell = events && ((took: Took) => events.attested(attestor.name, took))
      const state = await timed(clock, tell, () => joinTrustDomain(config, { attestor, clock, log, known }, signal))
      const svid = this.#svidOf(state)
      await (again ? svid.keep() : store.write(state))
      identities.setBundles(svid.bundle, identities.federatedBundles)
      await client.reconnect()
      return svid
    } catch (error) {
      if (stored === undefined || !(error instanceof Error) || signal.aborted) throw error
      const expired = this.#svidOf(stored).notAfter.toISOString()
      const reason = `the agent's SVID expired at ${expired} and it could not attest again: ${error.message}`
      throw new SpiffeError('agent_expired', reason, { cause: error })
    }
  }

  /** @throws {SpiffeError} `config_invalid` where it must be able to attest again and is not */
  #checkRebootstrap ({ canReattest }: AgentSvid): void {
    const { config: { rebootstrap }, log } = this.#options
    if (rebootstrap === undefined || canReattest) return
    const reason = 'the node attestor, or the server\'s configuration of it, does not let this node attest again'
    if (rebootstrap.mode === 'always') throw new SpiffeError('config_invalid', `agent.rebootstrap_mode: is always, and ${reason}`)
    log.warn({ reason }, 'rebootstrap_mode has no effect')
  }

  /** Nothing of the servers of before is of use: not what they signed, not what they said. */
  async #beginAnew (state: AgentState): Promise<void> {
    const { cacheFile, identities, jwts, mesh, client, onRenewed, log } = this.#options
    identities.forget()
    jwts.forget()
    mesh?.services.forget()
    await cacheFile?.remove()
    this.#svid = this.#svidOf(state)
    await this.#svid.keep()
    this.#stored = this.#cache = this.#trouble = this.#untrustedSinceMs = undefined
    identities.setBundles(state.bundle, new Map())
    await client.reconnect()
    onRenewed()
    log.info({ agent: this.#svid.id }, 'the node is an agent of the servers it found')
  }

  /** What a server took away is neither served nor found at the next start; callers come back once the node is an agent again. */
  async #forget (): Promise<void> {
    const { store, cacheFile, identities, mesh } = this.#options
    identities.forget()
    mesh?.services.forget()
    await cacheFile?.remove()
    await store.remove()
  }

  #svidOf (state: AgentState): AgentSvid {
    const { config: { availabilityTargetMs: availabilityMs }, store, clock, log, random } = this.#options
    return new AgentSvid(state, { store, clock, log, random, availabilityMs })
  }

  async #keepInStep (svid: AgentSvid, signal: AbortSignal): Promise<void> {
    const { config, identities, revocations, policies, jwts, mesh, client, onRenewed, onSynced, events, clock, log, random } = this.#options
    const keeper = this.#keeper(svid)
    const renewed = events && ((took: Took) => events.renewed(svid.canReattest ? 'attested' : 'signed', took))
    const renew = (csr: Uint8Array, signal: AbortSignal) => timed(clock, renewed, () => this.#renew(svid, csr, signal))
    const heard = () => {
      this.#trouble = this.#untrustedSinceMs = undefined
      this.#cache = undefined
      keeper?.heard()
    }
    await runTasks(signal, [
      signal => svid.run(renew, { onRenewed, reconnect: () => client.reconnect() }, signal),
      signal => identities.run({
        signX509Svids: async (orders, signal) => {
          const outcomes = await timed(clock, events?.signed, () => client.signX509Svids(orders, signal))
          keeper?.heard()
          return outcomes
        }
      }, signal),
      async signal => await followServer({
        client,
        agentId: svid.id,
        ownSvid: svid,
        identities,
        mesh,
        revocations,
        policies,
        trustDomain: config.trustDomain,
        intervalMs: config.syncIntervalSeconds * 1000,
        cursor: this.#cache?.cursor,
        onStep: cursor => keeper?.reached(cursor),
        onBundle: async bundle => {
          jwts.setTainted(new Set(bundle.jwtAuthorities.flatMap(({ keyId, tainted }) => tainted ? [keyId] : [])))
          await svid.setBundle(bundle)
        },
        onSynced: () => {
          heard()
          onSynced()
        },
        onTried: events?.synced,
        onTrouble: trouble => {
          this.#trouble = trouble
          if (trouble.code === 'server_untrusted') this.#untrustedSinceMs ??= clock.monotonicMs()
        },
        postStatus: signal => client.postStatus(version, signal),
        clock,
        log,
        random
      }, signal).catch((error: unknown) => {
        // At once: a cache that is being written must not hold it up.
        if (isWithdrawal(endingOf(error))) {
          identities.withdraw()
          mesh?.services.forget()
        }
        throw error
      }),
      async signal => await keeper?.run(signal),
      signal => this.#rebootstrap(svid, signal),
      signal => this.#forgetInTime(signal),
      signal => this.#endRevocations(signal)
    ])
    await keeper?.flush()
  }

  async #rebootstrap ({ canReattest }: AgentSvid, signal: AbortSignal): Promise<void> {
    const { config, attestor, clock, log } = this.#options
    if (config.rebootstrap === undefined || !canReattest) return
    const untrustedSinceMs = () => this.#untrustedSinceMs
    const state = await rebootstrap({ config, attestor, untrustedSinceMs, clock, log }, config.rebootstrap.delayMs, signal)
    throw new Rebootstrapped(state)
  }

  /** Who can attest again is not renewed, so that what it showed is looked at anew (spire-surface §2.2). */
  async #renew (svid: AgentSvid, csr: Uint8Array, signal: AbortSignal): Promise<Renewal> {
    const { config: { trustDomain, requirePqKem }, attestor, identities, client, clock, log } = this.#options
    if (!svid.canReattest) return await client.renewAgent(csr, signal)
    const verifyServer = verifyServerWith(() => identities.bundle, clock)
    try {
      return await attestNode({
        address: client.address, trustDomain, verifyServer, requirePqKem, attestor, csr, log
      }, signal)
    } catch (error) {
      if (isAway(error)) await client.moveOn()
      throw error
    }
  }

  #keeper (svid: AgentSvid): CacheKeeper | undefined {
    const { config, cacheFile, identities, revocations, policies, svids, mesh, clock, log } = this.#options
    if (cacheFile === undefined) return undefined
    return new CacheKeeper({
      file: cacheFile,
      identities,
      revocations,
      svids,
      services: mesh?.services,
      policies,
      agentId: svid.id,
      keepKeys: config.keepWorkloadKeys,
      maxAgeMs: config.offlineMaxAgeSeconds * 1000,
      clock,
      log,
      onWritten: generation => svid.setCacheGeneration(generation)
    }, {
      // The state's may be newer than the cache's: an unusable cache is no reason to count from its number.
      generation: Math.max(svid.cacheGeneration, this.#cache?.generation ?? 0),
      cursor: this.#cache?.cursor,
      heardAt: this.#cache?.heardAt ?? new Date(0)
    })
  }

  /** An agent that serves what was kept and hears of no server stops when that has become too old. */
  async #forgetInTime (signal: AbortSignal): Promise<void> {
    const { config, identities, clock, log } = this.#options
    for (let cache = this.#cache; cache !== undefined; cache = this.#cache) {
      const leftMs = cache.heardAt.getTime() + config.offlineMaxAgeSeconds * 1000 - clock.now().getTime()
      if (leftMs <= 0) {
        const { code, row: { next } } = new SpiffeError('cache_too_old', 'no server was heard of for too long')
        log.warn({ code, heardAt: cache.heardAt.toISOString(), next }, 'what was kept is not served any longer')
        identities.forget()
        this.#options.mesh?.services.forget()
        this.#cache = undefined
        return
      }
      await clock.sleep(Math.min(longestNapMs, leftMs), signal)
    }
  }

  async #endRevocations (signal: AbortSignal): Promise<void> {
    const { identities, revocations, clock } = this.#options
    for (;;) {
      await clock.sleep(longestNapMs, signal)
      if (revocations.expire(clock.now())) identities.dropRevoked(revocations.current.digests)
    }
  }

  /** Nothing that a server took away is served on, or found at the next start. @returns what to end with */
  async #end (error: unknown): Promise<SpiffeError> {
    const { store, cacheFile, identities, mesh, clock } = this.#options
    const ending = asEnding(error)
    await cacheFile?.remove()
    // An agent that was merely late leaves its state, so that the next start can say what happened.
    if (ending.code === 'agent_expired') return ending
    identities.withdraw()
    mesh?.services.forget()
    await store.remove()
    if (identities.views > 0) await clock.sleep(farewellMs)
    return ending
  }
}

/** Whether a server took the agent's standing away, for good; not merely time. */
function isWithdrawal (ending: ErrorCode | undefined): boolean {
  return ending === 'agent_banned' || ending === 'agent_not_attested'
}
