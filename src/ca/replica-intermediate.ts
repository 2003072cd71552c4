import type { Clock } from '../runtime/clock.ts'
import type { TrustDomain } from '../spiffe/trust-domain.ts'
import { createCaCertificate, type CaSubject } from '../x509/ca-certificate.ts'
import { parseCertificate } from '../x509/certificate.ts'
import { generatePrivateKey } from '../keys/private-key.ts'
import type { KeyType } from '../x509/key-type.ts'
import { prepareLeafIssuer, type LeafIssuer } from '../x509/leaf-issuer.ts'
import { signerOf } from '../x509/private-key-signer.ts'
import type { Composition } from './composition.ts'
import { backdateSeconds, type HeldRoot } from './x509-authority.ts'

export interface ReplicaIntermediateOptions {
  readonly trustDomain: TrustDomain
  readonly keyType: KeyType
  readonly subject: CaSubject
  /** What SVIDs usually ask for; an intermediate outlives several. */
  readonly usualTtlSeconds: number
  readonly composition: Composition | undefined
  readonly clock: Clock
}

export interface IntermediateIssuer {
  readonly leafIssuer: LeafIssuer
  /** DER; follows the leaf in a chain. */
  readonly certificate: Uint8Array
}

/** Between attempts to renew an intermediate that still serves. */
const pauseMs = 30_000

interface Current extends IntermediateIssuer { readonly root: HeldRoot, readonly renewAt: Date }

/**
 * One replica's own CA below the trust domain's root: its key never leaves memory, no bundle holds it, and it is gone with the process.
 * Renewed at half of its life, and at once when the root changes, an SVID is to live longer than it does, or the clock was set back. Where
 * the root's key is elsewhere, signing goes on with the present one while it is renewed, and for as long as that fails.
 */
export class ReplicaIntermediate {
  readonly #options: ReplicaIntermediateOptions
  #current: Current | undefined
  #making: Promise<Current> | undefined
  #tryAgainAt = new Date(0)

  constructor (options: ReplicaIntermediateOptions) { this.#options = options }

  /** @param until how long what is to be signed should live; the root's own end limits it */
  async issuerUnder (root: HeldRoot, until: Date): Promise<IntermediateIssuer> {
    for (;;) {
      const current = this.#current
      const now = this.#options.clock.now()
      // Made in the future: the clock was set back since, and nobody would accept what it signs.
      const isValid = current !== undefined && current.leafIssuer.issuer.notBefore <= now
      if (isValid && serves(current, root, until)) {
        if (current.renewAt > now) return current
        if (root.signer.signSync === undefined) {
          if (this.#tryAgainAt <= now) void this.#renewed(root, until).catch(() => { this.#tryAgainAt = new Date(now.getTime() + pauseMs) })
          return current
        }
      }
      await this.#renewed(root, until)
    }
  }

  /** Those who wait for one being made look again: it may be of an older root. */
  async #renewed (root: HeldRoot, until: Date): Promise<void> {
    const mine = this.#making ??= this.#make(root, until).finally(() => { this.#making = undefined })
    this.#current = await mine
  }

  async #make (root: HeldRoot, until: Date): Promise<Current> {
    const { trustDomain, keyType, subject, usualTtlSeconds, composition, clock } = this.#options
    const composed = await composition?.ca(subject)
    const now = clock.now().getTime()
    const wanted = Math.max(now + 24 * usualTtlSeconds * 1000, now + 2 * (until.getTime() - now))
    const notAfter = new Date(Math.min(wanted, atMost(root).getTime()))
    const signer = signerOf(await generatePrivateKey(keyType))
    const certificate = await createCaCertificate({
      trustDomain, signer, subject, ...composed, pathLength: 0, issuer: root,
      notBefore: new Date(now - backdateSeconds * 1000), notAfter
    })
    const lasts = notAfter < atMost(root)
    return {
      root,
      certificate,
      leafIssuer: prepareLeafIssuer(parseCertificate(certificate), signer),
      // At the root's own end there is nothing to renew it for.
      renewAt: lasts ? new Date((now + notAfter.getTime()) / 2) : notAfter
    }
  }
}

/** Or would, if it were not due. */
function serves (current: Current, root: HeldRoot, until: Date): boolean {
  const { notAfter } = current.leafIssuer.issuer
  return current.root === root && (notAfter >= until || notAfter >= atMost(root))
}

/** Certificates carry whole seconds. */
function atMost ({ notAfter }: HeldRoot): Date { return new Date(Math.floor(notAfter.getTime() / 1000) * 1000) }
