import type { MintedX509Ca, UpstreamAuthority, X509CaOrder } from '../../ca/upstream-authority.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import type { JsonObject } from '../../spiffe/strict-json.ts'
import { trustDomainId } from '../../spiffe/spiffe-id.ts'
import type { TrustDomain } from '../../spiffe/trust-domain.ts'
import { describeAnswer, member } from '../../vault/vault-http.ts'
import { encodeMount } from '../../vault/vault-login.ts'
import type { VaultSession } from '../../vault/vault-session.ts'
import { parseCertificate, type Certificate } from '../../x509/certificate.ts'
import { decodePem, encodePem } from '../../x509/pem.ts'
import { chainAndRoots } from '../issued-chain.ts'

const mostCertificates = 16

/** Vault's PKI engine, or OpenBao's, signs (spire-surface §7.4). Roots come with what is signed. */
export class VaultUpstream implements UpstreamAuthority {
  readonly #session: VaultSession
  readonly #engine: string
  readonly #trustDomain: TrustDomain

  /** @param pkiMount where the PKI engine is */
  constructor (session: VaultSession, pkiMount: string, trustDomain: TrustDomain) {
    this.#session = session
    this.#engine = encodeMount(pkiMount)
    this.#trustDomain = trustDomain
  }

  async mintX509Ca ({ csr, ttlSeconds }: X509CaOrder, signal: AbortSignal): Promise<MintedX509Ca> {
    const path = `${this.#engine}/root/sign-intermediate`
    const answer = await this.#ask(path, {
      csr: encodePem('CERTIFICATE REQUEST', csr), format: 'pem', ttl: `${ttlSeconds}s`, use_csr_values: true,
      uri_sans: trustDomainId(this.#trustDomain)
    }, signal)
    if (answer.status >= 300) throw this.#session.refusal('refused', `vault refuses ${path} with ${describeAnswer(answer)}`)
    return readSigned(member(answer.body, 'data'), path)
  }

  async [Symbol.asyncDispose] (): Promise<void> { await this.#session[Symbol.asyncDispose]() }

  async #ask (path: string, body: object, signal: AbortSignal) {
    try {
      return await this.#session.ask('POST', path, signal, body)
    } catch (error) {
      if (!signal.aborted || error instanceof SpiffeError) throw error
      throw this.#session.refusal('unreachable', 'vault did not answer in time')
    }
  }
}

function readSigned ({ certificate, issuing_ca: issuer, ca_chain: chain }: JsonObject, path: string): MintedX509Ca {
  const [ca, ...others] = readCertificates(certificate, 'certificate', path)
  const listed = Array.isArray(chain) ? chain.flatMap(pem => readCertificates(pem, 'ca_chain', path)) : []
  const above = [...others, ...listed.length > 0 ? listed : readCertificates(issuer, 'issuing_ca', path)]
  const [issuing, ...rest] = above
  if (ca === undefined || issuing === undefined) throw invalid(path, 'no certificate, or none above it')
  if (above.length > mostCertificates) throw invalid(path, `more than ${mostCertificates} certificates`)
  return chainAndRoots(ca, [issuing, ...rest])
}

function readCertificates (pem: unknown, name: string, path: string): Certificate[] {
  if (typeof pem !== 'string') throw invalid(path, `no PEM as "${name}"`)
  try {
    return decodePem(pem, 'CERTIFICATE').map(der => parseCertificate(der))
  } catch (error) {
    if (!(error instanceof SpiffeError)) throw error
    throw invalid(path, `a "${name}" that cannot be read: ${error.message}`, error)
  }
}

function invalid (path: string, what: string, cause?: Error): SpiffeError {
  return new SpiffeError('upstream_invalid', `vault answers ${path} with ${what}`, { cause })
}
