import { generateKeyPairSync } from 'node:crypto'
import type { CertificateAuthority } from '../ca/certificate-authority.ts'
import { serverIdOf } from '../spiffe/member-id.ts'
import type { TrustDomain } from '../spiffe/trust-domain.ts'
import type { Clock } from '../runtime/clock.ts'
import type { Logger } from '../runtime/logger.ts'

/** What the TLS listener shows. */
export interface TlsIdentity {
  /** DER, leaf first. */
  readonly chain: readonly Uint8Array[]
  /** PKCS#8, DER. Secret. */
  readonly privateKey: Uint8Array
}

interface IssuedIdentity extends TlsIdentity { readonly issuedAt: Date, readonly renewAt: Date }

const checkEveryMs = 5000

/** The server's own X509-SVID, `spiffe://<td>/spire/server`, renewed at half-life with a fresh key that never leaves memory (ID-15). */
export class ServerIdentity {
  readonly #authority: CertificateAuthority
  readonly #trustDomain: TrustDomain
  readonly #ttlSeconds: number
  readonly #clock: Clock
  #current: IssuedIdentity

  private constructor (options: ServerIdentityOptions, first: IssuedIdentity) {
    this.#authority = options.authority
    this.#trustDomain = options.trustDomain
    this.#ttlSeconds = options.ttlSeconds
    this.#clock = options.clock
    this.#current = first
  }

  static async open (options: ServerIdentityOptions): Promise<ServerIdentity> {
    return new ServerIdentity(options, await issue(options))
  }

  get current (): TlsIdentity { return this.#current }

  /** Renews in time until the signal aborts; `onRenewed` lets the listener take the new one. */
  async run (onRenewed: () => void, log: Logger, signal: AbortSignal): Promise<void> {
    for (;;) {
      await this.#clock.sleep(checkEveryMs, signal)
      const now = this.#clock.now()
      // Issued in the future: the clock was set back, and for now no agent accepts it.
      if (this.#current.renewAt > now && this.#current.issuedAt <= now) continue
      try {
        this.#current = await issue({
          authority: this.#authority, trustDomain: this.#trustDomain, ttlSeconds: this.#ttlSeconds, clock: this.#clock
        })
        onRenewed()
        log.debug({ renewAt: this.#current.renewAt.toISOString() }, 'server SVID renewed')
      } catch (error) {
        log.error({ err: error }, 'the server SVID could not be renewed; trying again')
      }
    }
  }
}

export interface ServerIdentityOptions {
  readonly authority: CertificateAuthority
  readonly trustDomain: TrustDomain
  readonly ttlSeconds: number
  readonly clock: Clock
}

async function issue ({ authority, trustDomain, ttlSeconds, clock }: ServerIdentityOptions): Promise<IssuedIdentity> {
  const { publicKey, privateKey } = generateKeyPairSync('ec', {
    namedCurve: 'P-256',
    publicKeyEncoding: { format: 'der', type: 'spki' },
    privateKeyEncoding: { format: 'der', type: 'pkcs8' }
  })
  const { chain, notAfter } = await authority.issueX509Svid({ id: serverIdOf(trustDomain), publicKey, dnsNames: [], ttlSeconds })
  const issuedAt = clock.now()
  return { chain, privateKey, issuedAt, renewAt: new Date((issuedAt.getTime() + notAfter.getTime()) / 2) }
}
