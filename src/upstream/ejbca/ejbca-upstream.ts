import { randomBytes } from 'node:crypto'
import { createSecureContext } from 'node:tls'
import type { Agent } from 'undici'
import type { MintedX509Ca, UpstreamAuthority, X509CaOrder } from '../../ca/upstream-authority.ts'
import { readTextFile } from '../../plugins/text-file.ts'
import { foreignWords } from '../../runtime/foreign-words.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import { trustDomainId } from '../../spiffe/spiffe-id.ts'
import { type JsonObject, type JsonValue, parseStrictJsonObject } from '../../spiffe/strict-json.ts'
import type { TrustDomain } from '../../spiffe/trust-domain.ts'
import { parseCertificateRequest } from '../../x509/certificate-request.ts'
import type { Certificate } from '../../x509/certificate.ts'
import { commonNameOf } from '../../x509/common-name.ts'
import { encodePem } from '../../x509/pem.ts'
import { parseCertificates } from '../held-ca.ts'
import { chainAndRoots } from '../issued-chain.ts'

export interface EjbcaOptions {
  /** With a port, unless it is 443. */
  readonly host: string
  /** Who signed EJBCA's own certificate; the web's authorities unless given. */
  readonly caPath: string | undefined
  readonly certificatePath: string
  readonly keyPath: string
  /** Of the CA that signs. */
  readonly caName: string
  readonly endEntityProfile: string
  readonly certificateProfile: string
  /** `cn`, `dns`, `uri`, `ip`: where in the request; the first of them that it has unless given. Anything else is the name. */
  readonly endEntityName: string | undefined
  readonly accountBindingId: string | undefined
}

const path = '/ejbca/ejbca-rest-api/v1/certificate/pkcs10enroll'
/** With its chain a CA takes some 10 KiB. */
const maxBytes = 1024 * 1024
const mostAbove = 16
const connectTimeoutMs = 5_000
const answerTimeoutMs = 30_000

/**
 * EJBCA signs by its REST API for enrolment (spire-surface §7.4); what a CA may be is in the profiles that are named. The files are read
 * for each order. Roots come with what is signed.
 */
export class EjbcaUpstream implements UpstreamAuthority {
  readonly #options: EjbcaOptions
  readonly #trustDomain: TrustDomain

  constructor (options: EjbcaOptions, trustDomain: TrustDomain) {
    this.#options = options
    this.#trustDomain = trustDomain
  }

  /** How long the CA lives is in EJBCA's profiles: no request can say it. */
  async mintX509Ca ({ csr }: X509CaOrder, signal: AbortSignal): Promise<MintedX509Ca> {
    const { caName, endEntityProfile, certificateProfile, accountBindingId } = this.#options
    const answer = await this.#enroll({
      certificate_request: encodePem('CERTIFICATE REQUEST', csr),
      certificate_authority_name: caName,
      certificate_profile_name: certificateProfile,
      end_entity_profile_name: endEntityProfile,
      username: this.#endEntityName(csr),
      // Of the end entity that EJBCA makes; nobody uses it again.
      password: randomBytes(18).toString('base64url'),
      include_chain: true,
      ...accountBindingId === undefined ? {} : { account_binding_id: accountBindingId }
    }, signal)
    return readEnrolled(answer)
  }

  /** @throws {SpiffeError} `file_unusable` */
  async readFiles (): Promise<{ readonly ca: string | undefined, readonly cert: string, readonly key: string }> {
    const { caPath, certificatePath, keyPath } = this.#options
    const [ca, cert, key] = await Promise.all([
      caPath === undefined ? undefined : readTextFile(caPath), readTextFile(certificatePath), readTextFile(keyPath)
    ])
    const files = { ca, cert, key }
    try {
      createSecureContext(files)
    } catch (error) {
      // One of two may have been exchanged a moment ago.
      const why = (error as Error).message
      throw new SpiffeError('file_unusable', `${certificatePath} and ${keyPath} are no certificate and its key in PEM: ${why}`)
    }
    return files
  }

  async [Symbol.asyncDispose] (): Promise<void> {}

  #endEntityName (csr: Uint8Array): string {
    const { endEntityName } = this.#options
    const { subjectDer } = parseCertificateRequest(csr)
    switch (endEntityName) {
      case undefined: return commonNameOf(subjectDer) ?? trustDomainId(this.#trustDomain)
      case 'uri': return trustDomainId(this.#trustDomain)
      case 'cn': {
        const name = commonNameOf(subjectDer)
        if (name !== undefined) return name
        throw new SpiffeError('config_invalid', 'end_entity_name is cn, and the CA has none: give ca_subject a common_name, or say uri')
      }
      case 'dns': case 'ip':
        throw new SpiffeError('config_invalid', `end_entity_name is ${endEntityName}, and a CA has no such name: say uri, cn, or a name`)
      default: return endEntityName
    }
  }

  async #enroll (body: object, signal: AbortSignal): Promise<JsonObject> {
    const { ca, cert, key } = await this.readFiles()
    const { Agent, request } = await import('undici')
    await using agent = openAgent(Agent, { ...ca === undefined ? {} : { ca }, cert, key })
    let status: number, bytes: Uint8Array
    try {
      const response = await request(`https://${this.#options.host}${path}`, {
        method: 'POST', dispatcher: agent, signal, body: JSON.stringify(body),
        headers: { 'content-type': 'application/json', accept: 'application/json' }
      })
      status = response.statusCode
      bytes = new Uint8Array(await response.body.arrayBuffer())
    } catch (error) {
      // With the request goes a password: nothing of it is in a message or a cause.
      const { code, message } = error as NodeJS.ErrnoException
      if (code === 'UND_ERR_RES_EXCEEDED_MAX_SIZE') throw invalid(`more than ${maxBytes} bytes`)
      throw new SpiffeError('upstream_unavailable', `ejbca at ${this.#options.host} cannot be asked: ${message || code || 'no reason'}`)
    }
    const answer = readAnswer(bytes)
    if (status >= 200 && status < 300) {
      if (answer === undefined) throw invalid('no JSON object')
      return answer
    }
    const said = typeof answer?.['error_message'] === 'string' ? `: ${foreignWords(answer['error_message'])}` : ''
    const code = status >= 500 || status === 429 ? 'upstream_unavailable' : 'upstream_refused'
    throw new SpiffeError(code, `ejbca answers with status ${status}${said}`)
  }
}

function openAgent (
  AgentOfLibrary: typeof Agent, tls: { readonly ca?: string, readonly cert: string, readonly key: string }
): Agent & AsyncDisposable {
  const agent = new AgentOfLibrary({
    maxResponseSize: maxBytes, headersTimeout: answerTimeoutMs, bodyTimeout: answerTimeoutMs,
    connect: { ...tls, minVersion: 'TLSv1.2', timeout: connectTimeoutMs }
  })
  return Object.assign(agent, { [Symbol.asyncDispose]: async () => await agent.destroy() })
}

function readAnswer (bytes: Uint8Array): JsonObject | undefined {
  try {
    return parseStrictJsonObject(bytes, { maxLength: maxBytes })
  } catch {
    return undefined
  }
}

function readEnrolled ({ certificate, certificate_chain: chain, response_format: format }: JsonObject): MintedX509Ca {
  if (format !== 'DER' && format !== 'PEM') throw invalid(`format ${foreignWords(JSON.stringify(format ?? null))}, not DER or PEM`)
  if (!Array.isArray(chain)) throw invalid('no certificate_chain')
  if (chain.length > mostAbove) throw invalid(`more than ${mostAbove} certificates`)
  const [first, ...others] = [certificate, ...chain as readonly JsonValue[]].map((value, index) => readOne(value, format, index))
  const above = others.filter(one => Buffer.compare(one.raw, (first as Certificate).raw) !== 0)
  const [issuer, ...rest] = above
  if (first === undefined || issuer === undefined) throw invalid('no certificate above the new one')
  return chainAndRoots(first, [issuer, ...rest])
}

/** DER in base64, or PEM, which is sometimes in base64 once more. */
function readOne (value: JsonValue | undefined, format: 'DER' | 'PEM', index: number): Certificate {
  const name = index === 0 ? 'ejbca\'s certificate' : `certificate ${index} of ejbca's certificate_chain`
  if (typeof value !== 'string') throw new SpiffeError('upstream_invalid', `${name} is no text`)
  const bytes = Buffer.from(value, 'base64')
  const text = format === 'DER' ? encodePem('CERTIFICATE', bytes) : value.includes('-----BEGIN') ? value : bytes.toString('latin1')
  const [read, ...more] = parseCertificates({ name, text })
  if (more.length > 0) throw new SpiffeError('upstream_invalid', `${name} is more than one`)
  return read
}

function invalid (what: string): SpiffeError { return new SpiffeError('upstream_invalid', `ejbca answers with ${what}`) }
