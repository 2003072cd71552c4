import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createServer as createHttp, type IncomingMessage, type ServerResponse } from 'node:http'
import { createServer as createHttps } from 'node:https'
import type { AddressInfo } from 'node:net'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TLSSocket } from 'node:tls'
import { parseTrustDomain } from '../../src/spiffe/trust-domain.ts'
import { createCaCertificate } from '../../src/x509/ca-certificate.ts'
import { parseCertificateRequest } from '../../src/x509/certificate-request.ts'
import { decodePem, encodePem } from '../../src/x509/pem.ts'
import { createTestCa, pemOf, type TestCa } from './ca-files.ts'
import { eventually } from './eventually.ts'

/** What a test of the plugin needs of a Vault: the real one, or `VaultPeer`. */
export interface Vault extends AsyncDisposable {
  readonly address: string
  /** May sign. */
  readonly token: string
  readonly approle: { readonly roleId: string, readonly secretId: string }
}

export interface Asked {
  readonly path: string
  readonly headers: IncomingMessage['headers']
  readonly body: Readonly<Record<string, unknown>>
}

export interface PeerTls { readonly key: string, readonly cert: string, readonly ca: string }

/**
 * The part of Vault's HTTP API that signs intermediates, as Vault 1.x and OpenBao 2.x answer it: paths, headers, statuses, the shape of
 * errors, and a PKI engine of a root and an issuer below it.
 */
export class VaultPeer implements Vault {
  readonly token = 's.peer'
  readonly approle = { roleId: 'role', secretId: 'secret' }
  readonly asked: Asked[] = []
  readonly root: TestCa
  readonly issuer: TestCa
  /** Answers instead. */
  fault: ((response: ServerResponse, asked: Asked) => void) | undefined
  readonly #server: ReturnType<typeof createHttp>
  readonly #scheme: string

  private constructor (root: TestCa, issuer: TestCa, tls: PeerTls | undefined) {
    this.root = root
    this.issuer = issuer
    const answer = (request: IncomingMessage, response: ServerResponse) => void this.#answer(request, response)
    this.#scheme = tls === undefined ? 'http' : 'https'
    this.#server = tls === undefined ? createHttp(answer) : createHttps({ ...tls, requestCert: true, rejectUnauthorized: false }, answer)
  }

  static async start (tls?: PeerTls): Promise<VaultPeer> {
    const root = await createTestCa()
    const peer = new VaultPeer(root, await createTestCa({ issuer: root }), tls)
    peer.#server.listen(0, '127.0.0.1')
    await once(peer.#server, 'listening')
    return peer
  }

  get address (): string { return `${this.#scheme}://127.0.0.1:${(this.#server.address() as AddressInfo).port}` }

  async [Symbol.asyncDispose] (): Promise<void> {
    this.#server.closeAllConnections()
    this.#server.close()
    await once(this.#server, 'close')
  }

  async #answer (request: IncomingMessage, response: ServerResponse): Promise<void> {
    const parts: Buffer[] = []
    for await (const part of request as AsyncIterable<Buffer>) parts.push(part)
    const send = (status: number, body: unknown) => {
      response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body))
    }
    const asked: Asked = { path: request.url ?? '', headers: request.headers, body: JSON.parse(Buffer.concat(parts).toString() || '{}') }
    this.asked.push(asked)
    if (this.fault !== undefined) return this.fault(response, asked)
    const { path, headers, body } = asked
    const auth = { auth: { client_token: this.token, lease_duration: 2_764_800, renewable: true, policies: ['default', 'spire'] } }
    if (path === '/v1/auth/approle/login') {
      if (body['role_id'] === this.approle.roleId && body['secret_id'] === this.approle.secretId) return send(200, auth)
      return send(400, { errors: ['invalid role or secret ID'] })
    }
    const denied = { errors: ['permission denied'] }
    if (path === '/v1/auth/kubernetes/login') return body['jwt'] === 'a.b.c' ? send(200, auth) : send(403, denied)
    if (path === '/v1/auth/cert/login') {
      const shown = (request.socket as TLSSocket).authorized
      return shown ? send(200, auth) : send(400, { errors: ['invalid certificate or no client certificate supplied'] })
    }
    if (headers['x-vault-token'] !== this.token) return send(403, denied)
    if (path === '/v1/auth/token/lookup-self') return send(200, { data: { ttl: 2_764_800, renewable: true } })
    if (path !== '/v1/pki/root/sign-intermediate') return send(404, { errors: [`no handler for route "${path.slice(4)}"`] })
    const data = await this.#sign(body)
    send(200, { request_id: '1', lease_id: '', renewable: false, lease_duration: 0, data, warnings: null, auth: null })
  }

  async #sign (body: Asked['body']) {
    const [csr] = decodePem(String(body['csr']), 'CERTIFICATE REQUEST')
    const { publicKey, subjectDer } = parseCertificateRequest(csr as Uint8Array)
    const seconds = Number(/^(\d+)s$/.exec(String(body['ttl']))?.[1])
    const trustDomain = parseTrustDomain(String(body['uri_sans']).replace('spiffe://', ''))
    const certificate = await createCaCertificate({
      trustDomain, signer: { publicKey }, subject: subjectDer, issuer: this.issuer,
      notBefore: new Date(Date.now() - 30_000), notAfter: new Date(Date.now() + seconds * 1000)
    })
    // Vault's PEM has no final line break.
    const chain = [this.issuer, this.root].map(ca => pemOf(ca).trimEnd())
    return {
      certificate: encodePem('CERTIFICATE', certificate).trimEnd(), issuing_ca: chain[0], ca_chain: chain, serial_number: '01',
      expiration: 0
    }
  }
}

/** A real Vault or OpenBao in its development mode, with a PKI engine and an AppRole that may sign. @param program its binary */
export async function startRealVault (program: string, port: number): Promise<Vault> {
  const home = await mkdtemp(join(tmpdir(), 'vault-'))
  const token = 'root'
  const child = spawn(program, ['server', '-dev', `-dev-root-token-id=${token}`, `-dev-listen-address=127.0.0.1:${port}`], {
    stdio: 'ignore', env: { HOME: home, PATH: process.env['PATH'] ?? '' }
  })
  const exited = once(child, 'exit')
  const address = `http://127.0.0.1:${port}`
  const call = async (method: string, path: string, body: unknown = {}) => {
    const answer = await fetch(`${address}/v1/${path}`, {
      method, headers: { 'x-vault-token': token }, ...method === 'GET' ? {} : { body: JSON.stringify(body) }
    })
    if (!answer.ok) throw new Error(`${path}: ${answer.status} ${await answer.text()}`)
    return answer.status === 204 ? {} : await answer.json() as { data: Record<string, string> }
  }
  const stop = async () => {
    child.kill('SIGKILL')
    await exited
    await rm(home, { recursive: true, force: true })
  }
  try {
    await eventually('Vault to serve', () => call('GET', 'sys/health').then(() => true, () => false))
    await call('POST', 'sys/mounts/pki', { type: 'pki', config: { max_lease_ttl: '87600h' } })
    await call('POST', 'pki/root/generate/internal', { common_name: 'Vault root', ttl: '87600h' })
    await call('PUT', 'sys/policies/acl/sign', { policy: 'path "pki/root/sign-intermediate" { capabilities = ["update"] }' })
    await call('POST', 'sys/auth/approle', { type: 'approle' })
    await call('POST', 'auth/approle/role/assay', { token_policies: 'sign' })
    const role = await call('GET', 'auth/approle/role/assay/role-id') as { data: Record<string, string> }
    const secret = await call('POST', 'auth/approle/role/assay/secret-id') as { data: Record<string, string> }
    return {
      address, token, approle: { roleId: role.data['role_id'] ?? '', secretId: secret.data['secret_id'] ?? '' },
      [Symbol.asyncDispose]: stop
    }
  } catch (error) {
    await stop()
    throw error
  }
}
