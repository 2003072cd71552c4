import { generateKeyPairSync } from 'node:crypto'
import type { CertificateAuthority } from '../ca/certificate-authority.ts'
import { serverIdOf } from '../spiffe/member-id.ts'
import type { TrustDomain } from '../spiffe/trust-domain.ts'
import type { Clock } from '../runtime/clock.ts'
import type { Logger } from '../runtime/logger.ts'
import { timed, type Took } from '../runtime/took.ts'
import { parseCertificate } from '../x509/certificate.ts'

/** What the TLS listener shows. */
export interface TlsIdentity {
  /** DER, leaf first. */
  readonly chain: readonly Uint8Array[]
  /** PKCS#8, DER. Secret. */
  readonly privateKey: Uint8Array
}

interface IssuedIdentity extends TlsIdentity {
  readonly issuedAt: Date
  readonly renewAt: Date
  /** Subject key ids of the CAs above it, hex. */
  readonly issuerIds: ReadonlySet<string>
}

const checkEveryMs = 5000

/**
 * The server's own X509-SVID, `spiffe://<td>/spire/server`, renewed at half-life, and as soon as another root signs, with a fresh key that
 * never leaves memory (ID-15).
 */
export class ServerIdentity {
  readonly #options: ServerIdentityOptions
  #current: IssuedIdentity
  #onRenewed: () => void = () => {}

  private constructor (options: ServerIdentityOptions, first: IssuedIdentity) {
    this.#options = options
    this.#current = first
  }

  static async open (options: ServerIdentityOptions): Promise<ServerIdentity> {
    return new ServerIdentity(options, await issue(options))
  }

  get current (): TlsIdentity { return this.#current }

  /** Renews in time until the signal aborts; `onRenewed` lets the listener take the new one, whoever had it renewed. */
  async run (onRenewed: () => void, signal: AbortSignal): Promise<void> {
    this.#onRenewed = onRenewed
    onRenewed()
    for (;;) {
      await this.#options.clock.sleep(checkEveryMs, signal)
      const now = this.#options.clock.now()
      // Issued in the future: the clock was set back, and for now no agent accepts it.
      if (this.#current.renewAt <= now || this.#current.issuedAt > now) await this.#renew()
      else await this.followRoot()
    }
  }

  /**
   * Renews below the root that signs now, unless it did already. Whoever learns of a new active root waits for this before it tells
   * anybody: once the old root is revoked, agents accept no server that still shows what it signed.
   */
  async followRoot (): Promise<void> {
    const root = this.#options.authority.x509Records.active?.authorityId
    if (root !== undefined && !this.#current.issuerIds.has(root)) await this.#renew()
  }

  async #renew (): Promise<void> {
    const { log } = this.#options
    try {
      this.#current = await issue(this.#options)
      this.#onRenewed()
      log.debug({ renewAt: this.#current.renewAt.toISOString() }, 'server SVID renewed')
    } catch (error) {
      log.error({ err: error }, 'the server SVID could not be renewed; trying again')
    }
  }
}

export interface ServerIdentityOptions {
  readonly authority: Pick<CertificateAuthority, 'issueX509Svid' | 'x509Records'>
  readonly trustDomain: TrustDomain
  readonly ttlSeconds: number
  /** Told of each attempt. */
  readonly onIssued?: ((took: Took) => void) | undefined
  readonly clock: Clock
  readonly log: Logger
}

function issue (options: ServerIdentityOptions): Promise<IssuedIdentity> {
  return timed(options.clock, options.onIssued, () => issueNow(options))
}

async function issueNow ({ authority, trustDomain, ttlSeconds, clock }: ServerIdentityOptions): Promise<IssuedIdentity> {
  const { publicKey, privateKey } = generateKeyPairSync('ec', {
    namedCurve: 'P-256',
    publicKeyEncoding: { format: 'der', type: 'spki' },
    privateKeyEncoding: { format: 'der', type: 'pkcs8' }
  })
  const { chain, notAfter } = await authority.issueX509Svid({ id: serverIdOf(trustDomain), publicKey, dnsNames: [], ttlSeconds })
  const issuerIds = new Set(chain.map(der => Buffer.from(parseCertificate(der).authorityKeyId ?? []).toString('hex')))
  const issuedAt = clock.now()
  return {
    chain, privateKey, issuedAt, issuerIds,
    renewAt: new Date((issuedAt.getTime() + notAfter.getTime()) / 2)
  }
}
