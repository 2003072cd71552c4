import { once } from 'node:events'
import { createServer, type Server } from 'node:https'
import type { AddressInfo } from 'node:net'
import type { TLSSocket } from 'node:tls'
import { parseTrustDomain } from '../../src/spiffe/trust-domain.ts'
import { createCaCertificate } from '../../src/x509/ca-certificate.ts'
import { parseCertificateRequest } from '../../src/x509/certificate-request.ts'
import { decodePem, encodePem } from '../../src/x509/pem.ts'
import type { WebCa } from '../federation/web-ca.ts'
import type { TestCa } from './ca-files.ts'

/** EJBCA's REST API as far as it enrols by PKCS #10, with the names and formats of its published interface. */
export class EjbcaPeer implements AsyncDisposable {
  readonly asked: Array<Readonly<Record<string, unknown>>> = []
  /** In which certificates come; PEM goes through base64 once more, as EJBCA's bytes do. */
  format: 'DER' | 'PEM' = 'DER'
  /** Answers instead: a status and a body, in JSON unless it is a text. */
  fault: ((enrolled: Readonly<Record<string, unknown>>) => readonly [number, unknown]) | undefined
  readonly #server: Server
  readonly #chain: readonly [TestCa, ...TestCa[]]

  private constructor (server: Server, chain: readonly [TestCa, ...TestCa[]]) {
    this.#server = server
    this.#chain = chain
  }

  /** @param chain who signs, then those above */
  static async start (web: WebCa, chain: readonly [TestCa, ...TestCa[]]): Promise<EjbcaPeer> {
    const server = createServer({ ...await web.certify(), ca: web.root, requestCert: true, rejectUnauthorized: false })
    const peer = new EjbcaPeer(server, chain)
    server.on('request', (request, response) => {
      let body = ''
      request.setEncoding('utf8').on('data', (text: string) => { body += text }).on('end', () => {
        const isKnown = (request.socket as TLSSocket).authorized
        void peer.#answer(`${request.method} ${request.url}`, isKnown, body).then(([status, answer]) => {
          const text = typeof answer === 'string' ? answer : JSON.stringify(answer)
          response.writeHead(status, { 'content-type': 'application/json' }).end(text)
        })
      })
    }).listen(0, '127.0.0.1')
    await once(server, 'listening')
    return peer
  }

  get hostname (): string { return `127.0.0.1:${(this.#server.address() as AddressInfo).port}` }

  async [Symbol.asyncDispose] (): Promise<void> {
    this.#server.closeAllConnections()
    this.#server.close()
    await once(this.#server, 'close')
  }

  async #answer (call: string, isKnown: boolean, body: string): Promise<readonly [number, unknown]> {
    if (!isKnown) return refuse(403, 'Error no client certificate or OAuth token received for authentication.')
    if (call !== 'POST /ejbca/ejbca-rest-api/v1/certificate/pkcs10enroll') return refuse(404, 'HTTP 404 Not Found')
    const order = JSON.parse(body) as Readonly<Record<string, unknown>>
    this.asked.push(order)
    if (order['certificate_authority_name'] !== 'Company-CA') return refuse(400, 'Unknown certificate authority name')
    const [csr] = decodePem(String(order['certificate_request']), 'CERTIFICATE REQUEST')
    const { publicKey, subjectDer } = parseCertificateRequest(csr as Uint8Array)
    const now = Date.now()
    const certificate = await createCaCertificate({
      trustDomain: parseTrustDomain('example.org'), signer: { publicKey }, subject: subjectDer, issuer: this.#chain[0],
      notBefore: new Date(now - 60_000), notAfter: new Date(now + 30 * 86_400_000)
    })
    const enrolled = {
      certificate: this.#written(certificate), serial_number: '7B', response_format: this.format,
      certificate_chain: this.#chain.map(({ certificate: { raw } }) => this.#written(raw))
    }
    return this.fault?.(enrolled) ?? [201, enrolled]
  }

  #written (der: Uint8Array): string {
    return Buffer.from(this.format === 'DER' ? der : encodePem('CERTIFICATE', der)).toString('base64')
  }
}

function refuse (code: number, message: string): readonly [number, object] { return [code, { error_code: code, error_message: message }] }
