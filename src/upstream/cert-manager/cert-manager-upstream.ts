import { hash } from 'node:crypto'
import type { ApiServer } from '../../attestation/kubernetes/api-server.ts'
import type { MintedX509Ca, UpstreamAuthority, X509CaOrder } from '../../ca/upstream-authority.ts'
import { foreignWords } from '../../runtime/foreign-words.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import { isJsonObject, type JsonObject, type JsonValue } from '../../spiffe/strict-json.ts'
import type { TrustDomain } from '../../spiffe/trust-domain.ts'
import type { Certificate } from '../../x509/certificate.ts'
import { encodePem } from '../../x509/pem.ts'
import { type NamedPem, parseCertificates } from '../held-ca.ts'
import { trusted } from '../issued-chain.ts'
import type { UpstreamHost } from '../upstream-plugin.ts'

export interface CertManagerOptions {
  /** Where requests are made, and the issuer is if it is one of a namespace. */
  readonly namespace: string
  readonly issuer: { readonly name: string, readonly kind: string, readonly group: string }
}

/** SPIRE's, so that either finds what the other has left behind. */
const trustDomainLabel = 'cert-manager.spiffe.io/trust-domain'
const lookEveryMs = 500
/** Long enough for an API server that is slow too: nobody deletes later what was never answered. */
const cleanUpMs = 10_000
/** What ended so long ago is nobody's who still waits for it. */
const staleMs = 600_000
const mostAbove = 16

/**
 * cert-manager signs (spire-surface §7.4): a CertificateRequest for a CA is made, looked at until its issuer has answered, and deleted.
 * Roots come with what is signed.
 */
export class CertManagerUpstream implements UpstreamAuthority {
  readonly #api: ApiServer
  readonly #options: CertManagerOptions
  readonly #host: UpstreamHost
  readonly #path: string
  readonly #label: string

  constructor (api: ApiServer, options: CertManagerOptions, host: UpstreamHost) {
    this.#api = api
    this.#options = options
    this.#host = host
    this.#path = `/apis/cert-manager.io/v1/namespaces/${options.namespace}/certificaterequests`
    this.#label = labelValueOf(host.trustDomain)
  }

  async mintX509Ca ({ csr, ttlSeconds }: X509CaOrder, signal: AbortSignal): Promise<MintedX509Ca> {
    const { metadata } = await asking('does not take the request', this.#api.create(this.#path, {
      apiVersion: 'cert-manager.io/v1',
      kind: 'CertificateRequest',
      metadata: { generateName: 'spiffe-ca-', labels: { [trustDomainLabel]: this.#label } },
      spec: {
        request: Buffer.from(encodePem('CERTIFICATE REQUEST', csr)).toString('base64'),
        duration: `${ttlSeconds}s`, isCA: true, usages: ['cert sign', 'crl sign'], issuerRef: this.#options.issuer
      }
    }, signal))
    const name = textOf(metadata, 'name')
    if (name === undefined) throw invalid('with a request that has no name')
    try {
      return readSigned(await this.#answered(name, signal), name)
    } finally {
      await this.#cleanUp(name, signal)
    }
  }

  async [Symbol.asyncDispose] (): Promise<void> { await this.#api[Symbol.asyncDispose]() }

  /** @returns the request's status, with a certificate */
  async #answered (name: string, signal: AbortSignal): Promise<JsonObject> {
    for (;;) {
      const request = await asking('does not show the request', this.#api.get(`${this.#path}/${encodeURIComponent(name)}`, signal))
      if (request === undefined) throw new SpiffeError('upstream_unavailable', `CertificateRequest ${name} was deleted, and not signed`)
      const status = isJsonObject(request['status']) ? request['status'] : {}
      const no = conditionsOf(status).find(isNo)
      if (no !== undefined) {
        const said = [no['reason'], no['message']].filter(part => typeof part === 'string').map(part => foreignWords(part)).join(': ')
        throw new SpiffeError('upstream_refused', `cert-manager does not sign CertificateRequest ${name}: ${said}`)
      }
      if (textOf(status, 'certificate')) return status
      await this.#pause(name, signal)
    }
  }

  async #pause (name: string, signal: AbortSignal): Promise<void> {
    try {
      await this.#host.clock.sleep(lookEveryMs, signal)
    } catch (error) {
      const { kind, name: issuer } = this.#options.issuer
      const message = `CertificateRequest ${name} was not signed in time; is there ${kind} ${issuer}, and is the request approved?`
      throw new SpiffeError('upstream_unavailable', message, { cause: error })
    }
  }

  /**
   * Deletes the request, and those that ended long ago and that whoever made them did not come to delete. Not all that ended: another
   * server of the trust domain may be about to read its own.
   */
  async #cleanUp (name: string, signal: AbortSignal): Promise<void> {
    // Also after the order itself has run out of time.
    const own = signal.aborted ? AbortSignal.timeout(cleanUpMs) : signal
    try {
      await this.#delete(name, own)
      const list = await this.#api.get(`${this.#path}?labelSelector=${encodeURIComponent(`${trustDomainLabel}=${this.#label}`)}`, own)
      const items = Array.isArray(list?.['items']) ? list['items'] as readonly JsonValue[] : []
      for (const item of items.filter(isJsonObject)) {
        const stale = this.#host.clock.now().getTime() - Date.parse(textOf(item['metadata'], 'creationTimestamp') ?? '') > staleMs
        const found = textOf(item['metadata'], 'name')
        if (stale && found !== undefined && hasEnded(item['status'])) await this.#delete(found, own)
      }
    } catch (error) {
      this.#host.log.warn({ err: error }, 'CertificateRequests that have served their purpose stay')
    }
  }

  async #delete (name: string, signal: AbortSignal): Promise<void> {
    await this.#api.delete(`${this.#path}/${encodeURIComponent(name)}`, signal)
  }
}

/** The certificate and those above it in one, the roots in the other; a root is in both where the issuer's CA is one. */
function readSigned (status: JsonObject, request: string): MintedX509Ca {
  const [ca, ...above] = parseCertificates(pemOf(status, 'certificate', request))
  if (textOf(status, 'ca') === undefined) {
    throw new SpiffeError('upstream_invalid', `the issuer tells no CA with CertificateRequest ${request}: status.ca is empty`)
  }
  const roots = parseCertificates(pemOf(status, 'ca', request))
  if (above.length + roots.length > mostAbove) throw invalid(`with more than ${mostAbove} certificates above the new one`)
  const isRoot = (one: Certificate) => roots.some(({ raw }) => Buffer.compare(raw, one.raw) === 0)
  return { chain: [ca, ...above.filter(one => !isRoot(one))].map(({ raw }) => raw), roots: trusted(roots) }
}

/** PEM, once more in base64, as the API has bytes. */
function pemOf (status: JsonObject, field: string, request: string): NamedPem {
  const text = Buffer.from(textOf(status, field) ?? '', 'base64').toString('latin1')
  return { name: `status.${field} of CertificateRequest ${request}`, text }
}

function conditionsOf (status: JsonObject): readonly JsonObject[] {
  const { conditions } = status
  return Array.isArray(conditions) ? (conditions as readonly JsonValue[]).filter(isJsonObject) : []
}

/** What ends a request without a certificate. */
function isNo ({ type, status, reason }: JsonObject): boolean {
  return status === 'True'
    ? type === 'Denied' || type === 'InvalidRequest'
    : type === 'Ready' && (reason === 'Failed' || reason === 'Denied')
}

function hasEnded (status: JsonValue | undefined): boolean {
  return isJsonObject(status) && conditionsOf(status).some(one => isNo(one) || (one['type'] === 'Ready' && one['status'] === 'True'))
}

/** A trust domain may be longer than a label's value, or end otherwise. */
function labelValueOf (trustDomain: TrustDomain): string {
  return /^[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?$/.test(trustDomain) ? trustDomain : hash('sha256', trustDomain).slice(0, 63)
}

function textOf (value: JsonValue | undefined, name: string): string | undefined {
  const member = isJsonObject(value) ? value[name] : undefined
  return typeof member === 'string' && member !== '' ? member : undefined
}

async function asking<T> (what: string, answer: Promise<T>): Promise<T> {
  try {
    return await answer
  } catch (error) {
    if (!(error instanceof SpiffeError)) throw new SpiffeError('upstream_unavailable', 'the Kubernetes API server did not answer in time')
    const status = Number(error.details?.['status'] ?? 0)
    const isNo = status >= 400 && status < 500 && status !== 429
    throw new SpiffeError(isNo ? 'upstream_refused' : 'upstream_unavailable', `the cluster ${what}: ${error.message}`, { cause: error })
  }
}

function invalid (what: string): SpiffeError { return new SpiffeError('upstream_invalid', `cert-manager answers ${what}`) }
