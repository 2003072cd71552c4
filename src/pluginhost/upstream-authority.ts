import type { MintedX509Ca, UpstreamAuthority, UpstreamTrust, X509CaOrder } from '../ca/upstream-authority.ts'
import type { ExternalProgram } from '../plugins/external-program.ts'
import type { CallOptions, Channel } from '../rpc/channel.ts'
import { RpcError } from '../rpc/rpc-error.ts'
import { nap } from '../runtime/nap.ts'
import { Watchable } from '../runtime/watchable.ts'
import type { JwtAuthority, X509Authority } from '../spiffe/bundle.ts'
import { codeOf, SpiffeError } from '../spiffe/errors.ts'
import { decodeJwtAuthority, encodeJwtAuthority } from '../wire/bundle-codec.ts'
import type { JWTKey, X509Certificate } from '../wire/generated/plugin-types.ts'
import { upstreamAuthorityPluginService as service } from '../wire/generated/plugin-upstream-authority.ts'
import { ExternalPlugin } from './external-plugin.ts'
import type { PluginHost } from './plugin-host.ts'

/** What asking again changes nothing about. */
const refusals = new Set<string>(['PERMISSION_DENIED', 'UNAUTHENTICATED', 'INVALID_ARGUMENT', 'FAILED_PRECONDITION', 'UNIMPLEMENTED'])
/** After a stream of the local bundle has ended. */
const subscribeAgainMs = 10_000
const never = new Promise<void>(() => {})

/** SPIRE's plugin type `UpstreamAuthority`. */
export async function startExternalUpstream (
  name: string, program: ExternalProgram, host: PluginHost, signal: AbortSignal
): Promise<UpstreamAuthority> {
  const plugin = await ExternalPlugin.start({ type: 'UpstreamAuthority', name, program, service: service.name }, host, signal)
  return new ExternalUpstream(plugin, host)
}

/**
 * A mint, and a key that is published, leave a stream open by which the plugin tells of changes: what it no longer names stays trusted, as
 * in SPIRE. A plugin that serves the bundle as a whole is believed in that as well.
 */
class ExternalUpstream implements UpstreamAuthority {
  readonly #plugin: ExternalPlugin
  readonly #host: PluginHost
  readonly #trust = new Watchable<UpstreamTrust | undefined>(undefined)
  readonly #closed = new AbortController()
  readonly #streams = new Map<'mint' | 'publish', AbortController>()
  readonly #subscription: Promise<void>
  #publishes = true

  constructor (plugin: ExternalPlugin, host: PluginHost) {
    this.#plugin = plugin
    this.#host = host
    this.#subscription = this.#subscribe(this.#closed.signal)
  }

  async mintX509Ca ({ csr, ttlSeconds }: X509CaOrder, signal: AbortSignal): Promise<MintedX509Ca> {
    const { x509CaChain, upstreamX509Roots } = await this.#first('mint', signal, (channel, options) =>
      channel.client(service).mintX509CAAndSubscribe({ csr, preferredTtl: ttlSeconds }, options),
    ({ upstreamX509Roots }) => this.#add({ x509Authorities: upstreamX509Roots.map(readX509) }))
    if (x509CaChain.length === 0 || upstreamX509Roots.length === 0) throw this.#invalid('signed nothing, or names no root')
    return { chain: x509CaChain.map(({ asn1 }) => asn1), roots: upstreamX509Roots.map(readX509) }
  }

  async * watch (signal: AbortSignal): AsyncGenerator<UpstreamTrust> {
    for await (const trust of this.#trust.watch(signal)) if (trust !== undefined) yield trust
  }

  /** @returns none where the plugin does not publish keys */
  async publishJwtKey (key: JwtAuthority, signal: AbortSignal): Promise<readonly JwtAuthority[]> {
    if (!this.#publishes) return []
    try {
      const { upstreamJwtKeys } = await this.#first('publish', signal, (channel, options) =>
        channel.client(service).publishJWTKeyAndSubscribe({ jwtKey: encodeJwtAuthority(key) }, options),
      ({ upstreamJwtKeys }) => this.#add({ jwtAuthorities: upstreamJwtKeys.map(readJwt) }))
      return upstreamJwtKeys.map(readJwt)
    } catch (error) {
      if (!isUnimplemented(error)) throw error
      this.#publishes = false
      this.#plugin.log.warn('the upstream authority publishes no JWT keys: JWT-SVIDs are known below this server only')
      return []
    }
  }

  async [Symbol.asyncDispose] (): Promise<void> {
    this.#closed.abort(new Error('the upstream authority is closed'))
    for (const stream of this.#streams.values()) stream.abort(this.#closed.signal.reason)
    await this.#subscription
    await this.#plugin[Symbol.asyncDispose]()
  }

  /** The first answer of a stream, which then goes on in the place of the one before it. */
  async #first<T> (
    name: 'mint' | 'publish', signal: AbortSignal, open: (channel: Channel, options: CallOptions) => AsyncIterable<T>,
    more: (answer: T) => void
  ): Promise<T> {
    signal.throwIfAborted()
    const stream = new AbortController()
    const stop = () => stream.abort(signal.reason)
    signal.addEventListener('abort', stop, { once: true })
    try {
      const answers = open(this.#plugin.channel, { signal: stream.signal })[Symbol.asyncIterator]()
      const { done, value } = await answers.next()
      if (done === true) throw this.#invalid('ended without an answer')
      this.#streams.get(name)?.abort(new Error('there is a newer stream'))
      this.#streams.set(name, stream)
      void this.#follow(name, answers, more)
      return value
    } catch (error) {
      stream.abort(error)
      throw this.#refusal(error, signal)
    } finally {
      signal.removeEventListener('abort', stop)
    }
  }

  async #follow<T> (name: string, answers: AsyncIterator<T>, more: (answer: T) => void): Promise<void> {
    try {
      for (;;) {
        const { done, value } = await answers.next()
        if (done === true) return
        more(value)
      }
    } catch (error) {
      const { message: reason } = error as Error
      this.#plugin.log.debug({ stream: name, reason }, 'the upstream tells of no more changes until the next rotation')
    }
  }

  /** The bundle as a whole, from plugins that know it. */
  async #subscribe (signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      try {
        const bundles = this.#plugin.channel.client(service).subscribeToLocalBundle({}, { signal })
        for await (const { upstreamX509Roots: roots, upstreamJwtKeys: keys } of bundles) {
          // A bundle that trusts nobody is no bundle.
          if (roots.length === 0) continue
          this.#trust.set({ x509Authorities: roots.map(readX509), jwtAuthorities: keys.map(readJwt), complete: true })
        }
      } catch (error) {
        if (isUnimplemented(this.#plugin.refusal(error))) return
        if (!signal.aborted) this.#plugin.log.warn({ err: error }, 'the upstream\'s bundle is not followed; what it said before stays')
      }
      await nap(this.#host.clock, subscribeAgainMs, never, signal).catch(() => {})
    }
  }

  #add (more: Partial<Pick<UpstreamTrust, 'x509Authorities' | 'jwtAuthorities'>>): void {
    const { x509Authorities = [], jwtAuthorities = [] } = this.#trust.value ?? {}
    this.#trust.set({ x509Authorities, jwtAuthorities, ...more, complete: false })
  }

  #refusal (error: unknown, signal: AbortSignal): unknown {
    if (signal.aborted && error === signal.reason) {
      return new SpiffeError('upstream_unavailable', `the plugin ${this.#plugin.name} did not answer in time`)
    }
    const refusal = this.#plugin.refusal(error)
    if (!(refusal instanceof SpiffeError) || codeOf(refusal) === 'upstream_invalid') return refusal
    const { message, cause } = refusal
    const isFinal = cause instanceof RpcError && refusals.has(cause.status)
    return new SpiffeError(isFinal ? 'upstream_refused' : 'upstream_unavailable', message, { cause: refusal })
  }

  #invalid (what: string): SpiffeError { return new SpiffeError('upstream_invalid', `the plugin ${this.#plugin.name} ${what}`) }
}

function isUnimplemented (error: unknown): boolean {
  for (let cause = error; cause instanceof Error; cause = cause.cause) {
    if (cause instanceof RpcError) return cause.status === 'UNIMPLEMENTED'
  }
  return false
}

function readX509 ({ asn1, tainted }: X509Certificate): X509Authority { return { certificate: asn1, tainted } }

function readJwt (key: JWTKey): JwtAuthority { return decodeJwtAuthority(key) }
