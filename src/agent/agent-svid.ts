import { createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject } from 'node:crypto'
import type { Bundle } from '../spiffe/bundle.ts'
import type { SpiffeId } from '../spiffe/spiffe-id.ts'
import type { Clock } from '../runtime/clock.ts'
import type { Logger } from '../runtime/logger.ts'
import { isSystemError } from '../runtime/system-error.ts'
import { isStop } from '../runtime/tasks.ts'
import { Watchable } from '../runtime/watchable.ts'
import { retryAfterMsOf } from '../rpc/rpc-error.ts'
import { SpiffeError } from '../spiffe/errors.ts'
import { parseSpiffeId } from '../spiffe/spiffe-id.ts'
import { parseCertificate, type Certificate } from '../x509/certificate.ts'
import { createCertificateRequest } from '../x509/certificate-request.ts'
import type { AgentState, AgentStateStore } from './agent-state.ts'
import { endsAgent } from './ends-agent.ts'
import { renewalTimeMs, wasSetBack } from './renewal-time.ts'
import { rootKeyIdOf, taintedKeyIds } from './tainted-roots.ts'

export interface AgentSvidDeps {
  readonly store: AgentStateStore
  readonly clock: Clock
  readonly log: Logger
  /** 0 to 1. */
  readonly random: () => number
  /** As in `renewalTimeMs`. */
  readonly availabilityMs?: number | undefined
}

/** DER, leaf first, and whether the node may attest again by itself, where it was asked anew. */
export interface Renewal { readonly chain: readonly Uint8Array[], readonly canReattest?: boolean }

interface AfterRenewal { readonly onRenewed?: (() => void) | undefined, readonly reconnect: () => Promise<void> }

type Renew = (csr: Uint8Array, signal: AbortSignal) => Promise<Renewal>

const checkEveryMs = 5000
const firstRetryMs = 1000
const longestRetryMs = 60_000
/** A renewal that takes longer was made by a server that is busy. */
const promptMs = 1000
const longestTurnMs = 30_000

/** The agent's own X509-SVID: shown to the server, renewed before half of its life, kept through restarts. */
export class AgentSvid {
  readonly #deps: AgentSvidDeps
  #state: AgentState
  #leaf: Certificate
  #renewAtMs: number
  /** Of one that was stored: when it became valid. */
  #receivedAtMs: number
  /** Of chain or bundle. */
  readonly #changes = new Watchable(0)
  #kept: Promise<void> = Promise.resolve()
  /** Whether what is in force is newer than what is stored. */
  #isUnwritten = false
  #wake: () => void = () => {}

  constructor (state: AgentState, deps: AgentSvidDeps) {
    this.#deps = deps
    this.#state = state
    this.#leaf = leafOf(state)
    this.#renewAtMs = renewalTimeMs(this.#leaf, 0.1, deps.random(), undefined, deps.availabilityMs)
    this.#receivedAtMs = this.#leaf.notBefore.getTime()
  }

  get id (): SpiffeId { return parseSpiffeId(this.#leaf.uriSans[0] ?? '') }
  get notAfter (): Date { return this.#leaf.notAfter }
  get bundle (): Bundle { return this.#state.bundle }
  /** Whether the server will let this node attest again by itself. */
  get canReattest (): boolean { return this.#state.canReattest }
  get cacheGeneration (): number { return this.#state.cacheGeneration }

  /** For the connection to the server. */
  get identity (): { readonly chain: readonly Uint8Array[], readonly privateKey: Uint8Array } { return this.#state }

  /** Stores what is in force. */
  async keep (): Promise<void> { await this.#keep(state => state) }

  /** Remembers the trust domain's newest bundle. */
  async setBundle (bundle: Bundle): Promise<void> {
    await this.#keep(state => ({ ...state, bundle }))
    this.#changes.set(this.#changes.value + 1)
    if (!this.#isTainted) return
    // What is signed below a root that is about to be revoked is of no use for long.
    this.#renewAtMs = 0
    this.#wake()
  }

  /** Returns once the root below which it is signed is not about to be revoked: at once, or after it was renewed. */
  async untilUntainted (signal: AbortSignal): Promise<void> {
    for await (const changes of this.#changes.watch(signal)) if (changes >= 0 && !this.#isTainted) return
  }

  get #isTainted (): boolean {
    const root = rootKeyIdOf(this.#state.chain)
    return root !== undefined && taintedKeyIds(this.#state.bundle).has(root)
  }

  /** Remembers that the cache was written. */
  async setCacheGeneration (cacheGeneration: number): Promise<void> {
    await this.#keep(state => ({ ...state, cacheGeneration }))
  }

  /**
   * Renews in time until the signal aborts.
   * @param then.onRenewed at once
   * @param then.reconnect turns to a connection that shows the new one; after a while, where the server took long to renew: then many want
   *   that, and the old connection serves as well
   * @throws what ends the agent: see `endsAgent`; {SpiffeError} `agent_expired`
   */
  async run (renew: Renew, then: AfterRenewal, signal: AbortSignal): Promise<void> {
    try {
      await this.#renewInTime(renew, then, signal)
    } finally {
      // Whoever comes next begins with what is stored.
      if (this.#isUnwritten) await this.keep()
    }
  }

  async #renewInTime (renew: Renew, then: AfterRenewal, signal: AbortSignal): Promise<void> {
    const { clock, log, random } = this.#deps
    for (let retryMs = firstRetryMs; ;) {
      if (this.#isUnwritten) await this.keep()
      const now = clock.now().getTime()
      if (this.#leaf.notAfter.getTime() <= now) throw new SpiffeError(
        'agent_expired', 'the agent\'s SVID expired before it could be renewed'
      )
      if (now < this.#renewAtMs && !wasSetBack(this.#receivedAtMs, now)) {
        await this.#nap(Math.min(checkEveryMs, this.#renewAtMs - now), signal)
        continue
      }
      try {
        const beganMs = clock.monotonicMs()
        const attests = this.canReattest
        // The old connection ends with the old SVID.
        const quarterMs = (this.#leaf.notAfter.getTime() - now) / 4
        await this.#renew(renew, signal)
        then.onRenewed?.()
        const tookMs = clock.monotonicMs() - beganMs
        // Of one that attested anew, the old SVID is worth nothing any more.
        if (tookMs > promptMs && !attests) await clock.sleep(random() * Math.min(longestTurnMs, tookMs * 10, quarterMs), signal)
        await then.reconnect()
        retryMs = firstRetryMs
      } catch (error) {
        if (isStop(error, signal) || endsAgent(error)) throw error
        // Agents that lost the same server do not come back in the same moment.
        const waitMs = retryAfterMsOf(error, longestRetryMs) ?? Math.round(retryMs * (0.5 + random() / 2))
        log.warn({ err: error, retryInMs: waitMs }, 'the agent\'s SVID could not be renewed')
        await clock.sleep(waitMs, signal)
        retryMs = Math.min(longestRetryMs, retryMs * 2)
      }
    }
  }

  async #nap (ms: number, signal: AbortSignal): Promise<void> {
    const woken = new AbortController()
    this.#wake = () => woken.abort()
    await this.#deps.clock.sleep(ms, AbortSignal.any([signal, woken.signal])).catch((error: unknown) => {
      if (!woken.signal.aborted) throw error
    })
  }

  async #renew (renew: Renew, signal: AbortSignal): Promise<void> {
    const key = newAgentKey()
    const { chain, canReattest = this.canReattest } = await renew(createCertificateRequest(key), signal)
    await this.#keep(state => agentState(chain, key, { ...state, canReattest }))
    this.#leaf = leafOf(this.#state)
    const now = this.#deps.clock.now()
    // Another replica may have turned to the new root later than the one that told of it.
    const { random, availabilityMs } = this.#deps
    this.#renewAtMs = this.#isTainted ? now.getTime() + checkEveryMs : renewalTimeMs(this.#leaf, 0.1, random(), now, availabilityMs)
    this.#receivedAtMs = now.getTime()
    this.#changes.set(this.#changes.value + 1)
    this.#deps.log.info({ agent: this.id, expires: this.notAfter.toISOString() }, 'agent SVID renewed')
  }

  /**
   * One change after the other: a new bundle that is being written must not bring the old key back. What a full disk does not take is in
   * force all the same, and written when there is room: the SVID of before may be worth nothing any more, and what else a server says must
   * not wait for the disk.
   */
  #keep (change: (state: AgentState) => AgentState): Promise<void> {
    const kept = this.#kept.then(async () => {
      this.#state = change(this.#state)
      await this.#write()
    })
    this.#kept = kept.catch(() => {})
    return kept
  }

  async #write (): Promise<void> {
    const { store, log } = this.#deps
    try {
      await store.write(this.#state)
      if (this.#isUnwritten) log.info('the agent\'s state is written again')
      this.#isUnwritten = false
    } catch (error) {
      if (!isSystemError(error)) throw error
      if (!this.#isUnwritten) log.error({ err: error }, 'the agent\'s state cannot be written; after a restart it may have to attest anew')
      this.#isUnwritten = true
    }
  }
}

export function newAgentKey (): KeyObject {
  return generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey
}

/** @throws {SpiffeError} `x509_svid_invalid` when the server signed another key */
export function agentState (chain: readonly Uint8Array[], key: KeyObject, rest: Omit<AgentState, 'chain' | 'privateKey'>): AgentState {
  const { bundle, canReattest, cacheGeneration } = rest
  const state = { chain, privateKey: key.export({ format: 'der', type: 'pkcs8' }), bundle, canReattest, cacheGeneration }
  leafOf(state)
  return state
}

function leafOf ({ chain, privateKey }: AgentState): Certificate {
  const leaf = parseCertificate(chain[0] ?? new Uint8Array())
  const key = createPrivateKey({ key: Buffer.from(privateKey), format: 'der', type: 'pkcs8' })
  if (!publicKeyOf(key).equals(leaf.publicKey)) throw new SpiffeError('x509_svid_invalid', 'the agent\'s SVID does not fit its key')
  return leaf
}

function publicKeyOf (key: KeyObject): Buffer {
  return createPublicKey(key).export({ format: 'der', type: 'spki' })
}
