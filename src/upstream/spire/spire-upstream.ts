import type { MintedX509Ca, UpstreamAuthority, UpstreamTrust, X509CaOrder } from '../../ca/upstream-authority.ts'
import { openTlsChannel, type Channel } from '../../rpc/channel.ts'
import { RetiringChannel } from '../../rpc/retiring-channel.ts'
import { RpcError } from '../../rpc/rpc-error.ts'
import type { TlsDemands } from '../../rpc/tls-identity.ts'
import { verifyServerWith } from '../../rpc/verify-server.ts'
import { isStop, runTasks } from '../../runtime/tasks.ts'
import { Watchable } from '../../runtime/watchable.ts'
import type { JwtAuthority } from '../../spiffe/bundle.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import { decodeBundle, decodeJwtAuthority, encodeJwtAuthority } from '../../wire/bundle-codec.ts'
import { bundleService } from '../../wire/generated/server-bundle.ts'
import { svidService } from '../../wire/generated/server-svid.ts'
import type { UpstreamHost } from '../upstream-plugin.ts'
import { IdentitySource } from './workload-identity.ts'

export interface SpireUpstreamOptions extends TlsDemands {
  /** `host:port` of the upstream server. */
  readonly address: string
  /** Path of the Workload API's socket, of an agent of the upstream. */
  readonly workloadApiSocket: string
}

const timeoutMs = 20_000
const pollEveryMs = 5_000
/** What asking again changes nothing about. */
const refusals = new Set<string>(['PERMISSION_DENIED', 'UNAUTHENTICATED', 'INVALID_ARGUMENT', 'FAILED_PRECONDITION', 'UNIMPLEMENTED'])
/** Authorities of one bundle. */
const maxAuthorities = 1000

/**
 * A server of the same trust domain above this one, SPIRE's or ours (spire-surface §1.4, §1.6). This server is a workload of an agent
 * there and has a `downstream` entry. What is tainted or revoked there is so here as well; JWT keys are published upwards.
 */
export class SpireUpstream implements UpstreamAuthority {
  readonly #address: string
  readonly #demands: TlsDemands
  readonly #host: UpstreamHost
  readonly #identity: IdentitySource
  readonly #channel: RetiringChannel
  readonly #trust = new Watchable<UpstreamTrust | undefined>(undefined)
  readonly #closed = new AbortController()
  readonly #run: Promise<void>
  /** Grows with each key that is published: a bundle that was asked for before may lack it. */
  #published = 0

  constructor ({ address, workloadApiSocket, ...demands }: SpireUpstreamOptions, host: UpstreamHost) {
    this.#address = address
    this.#demands = demands
    this.#host = host
    this.#identity = new IdentitySource(workloadApiSocket, host)
    this.#channel = new RetiringChannel(() => this.#open(), () => false)
    this.#run = runTasks(this.#closed.signal, [
      signal => this.#identity.run(signal),
      signal => this.#reconnect(signal),
      signal => this.#follow(signal)
    ])
    // Told when it is closed; until then whoever needs it fails by itself.
    this.#run.catch((error: unknown) => { host.log.error({ err: error }, 'the upstream is not followed any more') })
  }

  async mintX509Ca ({ csr, ttlSeconds }: X509CaOrder, signal: AbortSignal): Promise<MintedX509Ca> {
    const { caCertChain, x509Authorities } = await this.#call(signal, channel =>
      channel.client(svidService).newDownstreamX509CA({ csr, preferredTtl: ttlSeconds }, { signal, timeoutMs }))
    // The bundle of a moment ago knows which are tainted.
    return { chain: caCertChain, roots: x509Authorities.map(certificate => ({ certificate, tainted: false })) }
  }

  async * watch (signal: AbortSignal): AsyncGenerator<UpstreamTrust> {
    for await (const trust of this.#trust.watch(signal)) if (trust !== undefined) yield trust
  }

  async publishJwtKey (key: JwtAuthority, signal: AbortSignal): Promise<readonly JwtAuthority[]> {
    const { jwtAuthorities } = await this.#call(signal, channel =>
      channel.client(bundleService).publishJWTAuthority({ jwtAuthority: encodeJwtAuthority(key) }, { signal, timeoutMs }))
    this.#published++
    return jwtAuthorities.map(decodeJwtAuthority)
  }

  async [Symbol.asyncDispose] (): Promise<void> {
    this.#closed.abort(new Error('the upstream authority is closed'))
    await this.#run.catch(() => {})
    await this.#channel[Symbol.asyncDispose]()
  }

  /** Calls go over a connection that shows the newest SVID. */
  async #reconnect (signal: AbortSignal): Promise<void> {
    for await (const identity of this.#identity.watch(signal)) if (identity !== undefined) await this.#channel.replace()
  }

  /** Asks for the bundle regularly, and at once when the agent tells of another identity or bundle. */
  async #follow (signal: AbortSignal): Promise<void> {
    const { clock, log } = this.#host
    let said: string | undefined
    for (;;) {
      try {
        await this.#look(signal)
        if (said !== undefined) log.info('the upstream answers again')
        said = undefined
      } catch (error) {
        if (isStop(error, signal)) throw error
        if (!(error instanceof SpiffeError)) throw error
        if (error.message !== said) log.warn({ err: error }, 'the bundle of the upstream could not be had; what it said before stays')
        said = error.message
      }
      await this.#untilNextLook(clock.sleep(pollEveryMs, signal), signal)
    }
  }

  async #look (signal: AbortSignal): Promise<void> {
    const published = this.#published
    const bundle = decodeBundle(await this.#call(signal, channel => channel.client(bundleService).getBundle({}, { signal, timeoutMs })))
    if (published !== this.#published) return
    const { trustDomain, x509Authorities, jwtAuthorities } = bundle
    if (trustDomain !== this.#host.trustDomain) throw invalid(`the bundle of ${trustDomain} and not of ${this.#host.trustDomain}`)
    if (x509Authorities.length === 0) throw invalid('a bundle that trusts nobody')
    if (x509Authorities.length + jwtAuthorities.length > maxAuthorities) throw invalid(`more than ${maxAuthorities} authorities`)
    this.#trust.set({ x509Authorities, jwtAuthorities, complete: true })
  }

  async #untilNextLook (pause: Promise<void>, signal: AbortSignal): Promise<void> {
    const stop = new AbortController()
    const before = this.#identity.current
    const changed = async () => {
      for await (const identity of this.#identity.watch(AbortSignal.any([signal, stop.signal]))) if (identity !== before) return
    }
    try {
      await Promise.race([pause, changed()])
    } finally {
      stop.abort()
      pause.catch(() => {})
    }
  }

  /** @throws {SpiffeError} `upstream_unavailable`, `upstream_refused`, `upstream_invalid` */
  async #call<T> (signal: AbortSignal, call: (channel: Channel) => Promise<T>): Promise<T> {
    const within = AbortSignal.any([signal, this.#closed.signal])
    const { id } = await this.#identity.first(AbortSignal.any([within, AbortSignal.timeout(timeoutMs)]))
    try {
      return await this.#channel.use(call)
    } catch (error) {
      if (isStop(error, within)) throw error
      if (!(error instanceof RpcError)) {
        if (!(error instanceof SpiffeError)) throw error
        throw new SpiffeError('upstream_invalid', `the upstream at ${this.#address}: ${error.message}`, { cause: error })
      }
      const refuses = refusals.has(error.status)
      const who = error.status === 'PERMISSION_DENIED' ? ` (does ${id} have an entry with downstream there?)` : ''
      throw new SpiffeError(refuses ? 'upstream_refused' : 'upstream_unavailable',
        `the upstream at ${this.#address} answers ${error.status}: ${error.message}${who}`, { cause: error })
    }
  }

  #open (): Channel {
    const { clock, log, trustDomain } = this.#host
    const none = { trustDomain, x509Authorities: [], jwtAuthorities: [] }
    return openTlsChannel({
      ...this.#demands, address: this.#address, identity: () => this.#identity.current, log,
      verifyServer: verifyServerWith(() => this.#identity.current?.bundle ?? none, clock)
    })
  }
}

function invalid (what: string): SpiffeError { return new SpiffeError('upstream_invalid', `the upstream sent ${what}`) }
