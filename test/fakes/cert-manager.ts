import { parseTrustDomain } from '../../src/spiffe/trust-domain.ts'
import { createCaCertificate } from '../../src/x509/ca-certificate.ts'
import { parseCertificateRequest } from '../../src/x509/certificate-request.ts'
import { decodePem, encodePem } from '../../src/x509/pem.ts'
import { type TestCa, pemOf } from './ca-files.ts'
import { KubeApi } from './kube-api.ts'

export interface Requested {
  readonly metadata: { name: string, creationTimestamp: string, readonly generateName?: string, readonly labels?: Record<string, string> }
  readonly spec: { readonly request: string, readonly duration: string, readonly [key: string]: unknown }
  status?: object
}

const prefix = /^\/apis\/cert-manager\.io\/v1\/namespaces\/sandbox\/certificaterequests(?:\/([^/?]+))?(?:\?labelSelector=(.*))?$/

/**
 * CertificateRequests of namespace `sandbox` at an API server, and what cert-manager makes of them, in its words: the soak beside runs the
 * real one.
 */
export class CertManagerPeer {
  readonly api: KubeApi
  readonly requests = new Map<string, Requested>()
  /** As they came. */
  readonly orders: Requested[] = []
  /** What becomes of a request when it is looked at; left as it is unless this gives a status. */
  answer: (request: Requested) => Promise<object | undefined> | object | undefined = () => undefined
  #made = 0

  constructor (api: KubeApi) {
    this.api = api
    api.besides = (method, path, body) => this.#ask(method, path, body)
  }

  /** What an issuer of kind CA gives: those above the CA with the certificate, its root apart. */
  static async signed ({ spec }: Requested, issuer: TestCa, above: readonly TestCa[]): Promise<object> {
    const [csr] = decodePem(Buffer.from(spec.request, 'base64').toString(), 'CERTIFICATE REQUEST')
    const { publicKey, subjectDer } = parseCertificateRequest(csr as Uint8Array)
    const now = Date.now()
    const certificate = await createCaCertificate({
      trustDomain: parseTrustDomain('example.org'), signer: { publicKey }, subject: subjectDer, issuer,
      notBefore: new Date(now), notAfter: new Date(now + Number.parseInt(spec.duration) * 1_000)
    })
    const chain = [encodePem('CERTIFICATE', certificate), pemOf(issuer)].join('')
    const root = above.at(-1) ?? issuer
    return {
      certificate: Buffer.from(chain).toString('base64'), ca: Buffer.from(pemOf(root)).toString('base64'),
      conditions: [approved, { type: 'Ready', status: 'True', reason: 'Issued', message: 'Certificate fetched from issuer successfully' }]
    }
  }

  #ask (method: string, path: string, body: string): [number, object] | undefined {
    const [matched, name, selector] = prefix.exec(path) ?? []
    if (matched === undefined) return undefined
    if (method === 'POST') return this.#create(body)
    if (name === undefined) {
      const [label, value] = decodeURIComponent(selector ?? '').split('=') as [string, string]
      const items = [...this.requests.values()].filter(({ metadata }) => metadata.labels?.[label] === value)
      return [200, { kind: 'CertificateRequestList', metadata: { resourceVersion: '1' }, items }]
    }
    const request = this.requests.get(name)
    if (request === undefined) return [404, { kind: 'Status', status: 'Failure', message: `certificaterequests "${name}" not found` }]
    if (method === 'DELETE') this.requests.delete(name)
    else void Promise.resolve(this.answer(request)).then(status => { if (status !== undefined) request.status = status })
    return [200, structuredClone(request)]
  }

  #create (body: string): [number, object] {
    const { metadata, ...order } = JSON.parse(body) as Requested
    const name = `${metadata.generateName}${++this.#made}`
    const request = { ...order, metadata: { ...metadata, name, creationTimestamp: new Date().toISOString() } }
    this.requests.set(name, request)
    this.orders.push(structuredClone(request))
    return [201, request]
  }
}

export const approved = {
  type: 'Approved', status: 'True', reason: 'cert-manager.io', message: 'Certificate request has been approved by cert-manager.io'
}
