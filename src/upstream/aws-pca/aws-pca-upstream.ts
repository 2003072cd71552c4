import { awsFailureOf } from '../../aws/aws-failure.ts'
import type { AwsJsonService } from '../../aws/aws-json-service.ts'
import type { MintedX509Ca, UpstreamAuthority, UpstreamTrust, X509CaOrder } from '../../ca/upstream-authority.ts'
import { readTextFile } from '../../plugins/text-file.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import { isJsonObject, type JsonObject } from '../../spiffe/strict-json.ts'
import type { Certificate } from '../../x509/certificate.ts'
import { encodePem } from '../../x509/pem.ts'
import { parseCertificates } from '../held-ca.ts'
import { chainAndRoots, trusted } from '../issued-chain.ts'
import { refusalOfAws } from '../refusal-of-aws.ts'
import type { UpstreamHost } from '../upstream-plugin.ts'
import { watchRoots } from '../watch-roots.ts'

export interface AwsPcaOptions {
  readonly authorityArn: string
  readonly templateArn: string
  /** The CA's own where none is given. */
  readonly signingAlgorithm: string | undefined
  /** PEM file of roots that are trusted besides the CA's. */
  readonly supplementalBundlePath: string | undefined
}

const mostAbove = 16
/** Until it is asked again whether a certificate is there. */
const lookEveryMs = 500
/** What may be over by the next time. */
const passing = new Set(['throttled', 'unreachable', 'failed'])

/**
 * A private CA of AWS signs (spire-surface §7.4). Its state, algorithm and end are asked for with each order: a CA that is not ACTIVE signs
 * nothing. The certificate comes a moment after it was ordered. Roots come with it; those of the file are published as soon as they are
 * there.
 */
export class AwsPcaUpstream implements UpstreamAuthority {
  readonly #pca: AwsJsonService
  readonly #options: AwsPcaOptions
  readonly #host: UpstreamHost

  constructor (pca: AwsJsonService, options: AwsPcaOptions, host: UpstreamHost) {
    this.#pca = pca
    this.#options = options
    this.#host = host
  }

  async * watch (signal: AbortSignal): AsyncGenerator<UpstreamTrust> {
    const { supplementalBundlePath: path } = this.#options
    if (path !== undefined) yield * watchRoots(() => readRoots(path), this.#host, signal)
  }

  async mintX509Ca ({ csr, ttlSeconds }: X509CaOrder, signal: AbortSignal): Promise<MintedX509Ca> {
    const { authorityArn: CertificateAuthorityArn, templateArn: TemplateArn, supplementalBundlePath: path } = this.#options
    const besides = path === undefined ? [] : await readRoots(path)
    const { SigningAlgorithm, longestMs } = await this.#look(signal)
    const notAfterMs = Math.min(this.#host.clock.now().getTime() + ttlSeconds * 1_000, longestMs)
    const { CertificateArn } = await asking('issue a CA', this.#pca.call('IssueCertificate', {
      CertificateAuthorityArn, TemplateArn, SigningAlgorithm,
      Csr: Buffer.from(encodePem('CERTIFICATE REQUEST', csr)).toString('base64'),
      Validity: { Type: 'ABSOLUTE', Value: Math.floor(notAfterMs / 1_000) }
    }, signal))
    if (typeof CertificateArn !== 'string') throw invalid('the ARN of what it issued')
    const minted = await this.#issued(CertificateArn, signal)
    return { ...minted, roots: [...minted.roots, ...trusted(besides)] }
  }

  async [Symbol.asyncDispose] (): Promise<void> { await this.#pca[Symbol.asyncDispose]() }

  async #look (signal: AbortSignal): Promise<{ readonly SigningAlgorithm: string, readonly longestMs: number }> {
    const { authorityArn, signingAlgorithm } = this.#options
    const answer = await asking('describe the CA',
      this.#pca.call('DescribeCertificateAuthority', { CertificateAuthorityArn: authorityArn }, signal))
    const { Status, NotAfter, CertificateAuthorityConfiguration: configured } = memberOf(answer, 'CertificateAuthority')
    if (Status !== 'ACTIVE') {
      throw new SpiffeError('upstream_refused', `${authorityArn} is ${typeof Status === 'string' ? Status.slice(0, 40) : 'in no state'}; ` +
        'a CA signs while it is ACTIVE')
    }
    const SigningAlgorithm = signingAlgorithm ?? (isJsonObject(configured) ? configured['SigningAlgorithm'] : undefined)
    if (typeof SigningAlgorithm !== 'string') throw invalid('the CA\'s signing algorithm')
    // Seconds, with a fraction.
    return { SigningAlgorithm, longestMs: typeof NotAfter === 'number' ? NotAfter * 1_000 : Infinity }
  }

  /** Waits until it is there. What was ordered is paid for: trouble on the way is no reason to give it up before the signal aborts. */
  async #issued (CertificateArn: string, signal: AbortSignal): Promise<MintedX509Ca> {
    const question = { CertificateArn, CertificateAuthorityArn: this.#options.authorityArn }
    for (;;) {
      try {
        const { Certificate, CertificateChain } = await this.#pca.call('GetCertificate', question, signal)
        return readIssued(Certificate, CertificateChain)
      } catch (error) {
        if (error instanceof SpiffeError) throw error
        const isOnItsWay = (error as Error).name === 'RequestInProgressException'
        if (signal.aborted || (!isOnItsWay && !passing.has(awsFailureOf(error).kind))) {
          throw refusalOfAws(error, 'aws pca does not give what it issued')
        }
      }
      await this.#pause(signal)
    }
  }

  async #pause (signal: AbortSignal): Promise<void> {
    try {
      await this.#host.clock.sleep(lookEveryMs, signal)
    } catch (error) {
      throw new SpiffeError('upstream_unavailable', 'aws pca has issued a CA and did not give it in time', { cause: error })
    }
  }
}

/** @throws {SpiffeError} `file_unusable`, `upstream_invalid` */
export async function readRoots (path: string): Promise<readonly Certificate[]> {
  return parseCertificates({ name: path, text: await readTextFile(path) })
}

function readIssued (certificate: unknown, chain: unknown): MintedX509Ca {
  if (typeof certificate !== 'string' || typeof chain !== 'string') throw invalid('a certificate and those above it')
  const [ca] = parseCertificates({ name: 'aws pca\'s certificate', text: certificate })
  const above = parseCertificates({ name: 'aws pca\'s chain', text: chain })
  if (above.length > mostAbove) throw new SpiffeError('upstream_invalid', `aws pca answers with more than ${mostAbove} certificates`)
  return chainAndRoots(ca, above)
}

function memberOf (answer: JsonObject, name: string): JsonObject {
  const value = answer[name]
  if (isJsonObject(value)) return value
  throw invalid(name)
}

async function asking<T> (what: string, answer: Promise<T>): Promise<T> {
  try {
    return await answer
  } catch (error) {
    throw refusalOfAws(error, `aws pca does not ${what}`)
  }
}

function invalid (what: string): SpiffeError { return new SpiffeError('upstream_invalid', `aws pca answers without ${what}`) }
