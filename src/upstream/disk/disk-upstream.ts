import { hash } from 'node:crypto'
import type { MintedX509Ca, UpstreamAuthority, UpstreamTrust, X509CaOrder } from '../../ca/upstream-authority.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import { trustDomainId } from '../../spiffe/spiffe-id.ts'
import { createCaCertificate } from '../../x509/ca-certificate.ts'
import { parseCertificateRequest } from '../../x509/certificate-request.ts'
import type { Certificate } from '../../x509/certificate.ts'
import type { UpstreamHost } from '../upstream-plugin.ts'
import { readUpstreamFiles, type UpstreamFiles } from './read-upstream-files.ts'

const lookEveryMs = 5_000
/** Clocks of validators may run behind ours. */
const backdateMs = 10_000

/** A CA in files. They are read at each order, so that new ones count from then on; new roots are published as soon as they are there. */
export class DiskUpstream implements UpstreamAuthority {
  readonly #files: UpstreamFiles
  readonly #host: UpstreamHost

  constructor (files: UpstreamFiles, host: UpstreamHost) {
    this.#files = files
    this.#host = host
  }

  async mintX509Ca ({ csr, ttlSeconds }: X509CaOrder): Promise<MintedX509Ca> {
    const { trustDomain, clock } = this.#host
    const { publicKey, subjectDer, uriSans } = parseCertificateRequest(csr)
    if (uriSans.length !== 1 || uriSans[0] !== trustDomainId(trustDomain)) {
      throw new SpiffeError('csr_malformed', `the one URI SAN must be ${trustDomainId(trustDomain)}`)
    }
    const { certificate, signer, chain, roots } = await readUpstreamFiles(this.#files)
    const now = clock.now()
    const ends = [certificate, ...chain].map(({ notAfter }) => notAfter.getTime())
    const notAfter = Math.min(now.getTime() + ttlSeconds * 1000, ...ends)
    if (notAfter <= now.getTime()) {
      const end = new Date(notAfter).toISOString()
      throw new SpiffeError('upstream_invalid', `a certificate in ${this.#files.certificate} was valid until ${end}`)
    }
    const ca = await createCaCertificate({
      trustDomain, signer: { publicKey }, subject: subjectDer, issuer: { certificate, signer },
      notBefore: new Date(now.getTime() - backdateMs), notAfter: new Date(notAfter)
    })
    return { chain: [ca, ...chain.map(({ raw }) => raw)], roots: trusted(roots) }
  }

  /** Roots that are new. One that is gone from the file stays trusted until it ends or is revoked: files are edited in haste. */
  async * watch (signal: AbortSignal): AsyncGenerator<UpstreamTrust> {
    const { clock, log } = this.#host
    let shown: string | undefined
    let said: string | undefined
    for (;;) {
      try {
        const { roots } = await readUpstreamFiles(this.#files)
        const found = roots.map(({ raw }) => hash('sha256', raw)).toSorted().join()
        if (said !== undefined) log.info('the upstream authority\'s files can be used again')
        said = undefined
        if (found !== shown) yield { x509Authorities: trusted(roots), jwtAuthorities: [], complete: false }
        shown = found
      } catch (error) {
        if (!(error instanceof SpiffeError)) throw error
        if (error.message !== said) log.warn({ err: error }, 'the upstream authority\'s files cannot be used; what they held before stays')
        said = error.message
      }
      await clock.sleep(lookEveryMs, signal)
    }
  }

  async [Symbol.asyncDispose] (): Promise<void> {}
}

function trusted (roots: readonly Certificate[]) { return roots.map(({ raw }) => ({ certificate: raw, tainted: false })) }
