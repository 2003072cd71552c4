import { createCipheriv, createDecipheriv, createPublicKey, generateKeyPairSync, randomBytes, type KeyObject } from 'node:crypto'
import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { createServer as createTlsServer, type ServerOptions } from 'node:https'
import type { AddressInfo } from 'node:net'
import type { TLSSocket } from 'node:tls'
import { signDigest } from './sign-digest.ts'

export interface VaultRequest { readonly method: string, readonly path: string, readonly body: Readonly<Record<string, unknown>> }
/** What a fault answers in place of Vault: a status with a text, or `'hang'` for nothing at all, `'cut'` for half an answer. */
export type VaultFault = { readonly status: number, readonly text: string, readonly headers?: Record<string, string> } | 'hang' | 'cut'

export interface FakeVault extends AsyncDisposable {
  readonly address: string
  /** In the order they came, logins apart. */
  readonly requests: readonly VaultRequest[]
  readonly logins: readonly VaultRequest[]
  readonly keys: ReadonlyMap<string, KeyObject>
  /** Asked before each request; `undefined` lets Vault answer. */
  fault: (request: VaultRequest) => VaultFault | undefined
  /** Life of tokens that are given out from now on. */
  leaseSeconds: number
  renewable: boolean
  /** Forgets all tokens but the root's. */
  revokeTokens (): void
  /** Keys that encrypt, made by encrypting or by `rotate`: all their versions. */
  readonly encryptionKeys: Map<string, Buffer[]>
  /** As an operator of Vault would. */
  deleteKey (name: string): void
  /** Closes every connection and listens no more. */
  stop (): Promise<void>
}

const keyTypes: Readonly<Record<string, () => KeyObject>> = {
  'ecdsa-p256': () => generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey,
  'ecdsa-p384': () => generateKeyPairSync('ec', { namedCurve: 'P-384' }).privateKey,
  'rsa-2048': () => generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey,
  'rsa-4096': () => generateKeyPairSync('rsa', { modulusLength: 4096 }).privateKey
}

/** The part of Vault's API that key managers call, with statuses and texts as OpenBao 2.6 gives them. The token `root` may do all. */
export async function startFakeVault ({ tls }: { readonly tls?: ServerOptions } = {}): Promise<FakeVault> {
  const keys = new Map<string, { readonly key: KeyObject, readonly type: string, deletable: boolean }>()
  const encryptionKeys = new Map<string, Buffer[]>()
  const tokens = new Set(['root'])
  const requests: VaultRequest[] = []
  const logins: VaultRequest[] = []

  const answer = async (request: IncomingMessage, response: ServerResponse) => {
    const send = (status: number, body: unknown) => {
      response.writeHead(status, { 'content-type': 'application/json' }).end(body === undefined ? '' : JSON.stringify(body))
    }
    const parts: Uint8Array[] = []
    for await (const part of request as AsyncIterable<Uint8Array>) parts.push(part)
    const text = Buffer.concat(parts).toString()
    const { method = '', url = '' } = request
    const body = text === '' ? {} : JSON.parse(text) as Record<string, unknown>
    const seen = { method, path: url.replace(/^\/v1\//, ''), body }
    const login = /^auth\/(?:(approle|kubernetes|cert)\/login|token\/(renew|lookup)-self)$/.exec(seen.path)
    if (login === null) requests.push(seen)
    else logins.push(seen)
    const fault = vault.fault(seen)
    if (fault === 'hang') return
    if (fault === 'cut') {
      response.writeHead(200, { 'content-type': 'application/json', 'content-length': '100' }).write('{"data":')
      return request.socket.destroy()
    }
    if (fault !== undefined) return response.writeHead(fault.status, fault.headers).end(fault.text)
    const grant = (token = randomBytes(12).toString('hex')) => {
      tokens.add(token)
      send(200, { auth: { client_token: token, lease_duration: vault.leaseSeconds, renewable: vault.renewable } })
    }
    switch (login?.[1]) {
      case 'approle':
        if (body['role_id'] === 'role' && body['secret_id'] === 'secret') return grant()
        return send(400, { errors: ['invalid role or secret ID'] })
      case 'kubernetes':
        if (body['role'] === 'assay' && body['jwt'] === 'service-account') return grant()
        return send(403, { errors: ['permission denied'] })
      case 'cert': {
        const { authorized } = request.socket as TLSSocket
        return authorized ? grant() : send(400, { errors: ['invalid certificate or no client certificate supplied'] })
      }
    }
    const token = String(request.headers['x-vault-token'])
    if (!tokens.has(token)) return send(403, { errors: ['permission denied'] })
    if (login?.[2] === 'renew') return grant(token)
    if (login?.[2] === 'lookup') return send(200, { data: { ttl: token === 'root' ? 0 : vault.leaseSeconds, renewable: vault.renewable } })

    const [, verb, name = '', last] = /^transit\/(keys|sign|encrypt|decrypt)\/([A-Za-z0-9._-]+)(?:\/([a-z0-9-]+))?$/.exec(seen.path) ?? []
    const known = keys.get(name)
    if (verb === 'keys' && method === 'POST' && last === undefined) {
      const make = keyTypes[String(body['type'])]
      if (make === undefined) return send(400, { errors: [`unknown key type ${String(body['type'])}`] })
      if (known === undefined) keys.set(name, { key: make(), type: String(body['type']), deletable: false })
      return send(204, undefined)
    }
    if (verb === 'keys' && method === 'GET') {
      if (known === undefined) return send(404, { errors: [] })
      const pem = createPublicKey(known.key).export({ format: 'pem', type: 'spki' })
      return send(200, { data: { name, type: known.type, latest_version: 1, keys: { 1: { public_key: pem, creation_time: '' } } } })
    }
    if (verb === 'keys' && last === 'config') {
      if (known === undefined) return send(400, { errors: [`no existing key named ${name} could be found`] })
      known.deletable = body['deletion_allowed'] === true
      return send(200, { data: {} })
    }
    if (verb === 'keys' && method === 'DELETE') {
      if (known === undefined) return send(400, { errors: ['could not delete key; not found'] })
      if (!known.deletable) return send(400, { errors: ['deletion is not allowed for this key'] })
      keys.delete(name)
      return send(204, undefined)
    }
    if (verb === 'encrypt' && method === 'POST') {
      const versions = encryptionKeys.get(name) ?? [randomBytes(32)]
      encryptionKeys.set(name, versions)
      const nonce = randomBytes(12)
      const cipher = createCipheriv('aes-256-gcm', versions.at(-1) as Buffer, nonce)
      const sealed = [nonce, cipher.update(Buffer.from(String(body['plaintext']), 'base64')), cipher.final(), cipher.getAuthTag()]
      const ciphertext = `vault:v${versions.length}:${Buffer.concat(sealed).toString('base64')}`
      return send(200, { data: { ciphertext, key_version: versions.length } })
    }
    if (verb === 'decrypt' && method === 'POST') {
      const versions = encryptionKeys.get(name)
      if (versions === undefined) return send(400, { errors: ['encryption key not found'] })
      const [, number, base64 = ''] = /^vault:v(\d+):(.*)$/.exec(String(body['ciphertext'])) ?? []
      const [key, bytes] = [versions[Number(number) - 1], Buffer.from(base64, 'base64')]
      if (key === undefined) return send(400, { errors: ['invalid ciphertext: version is too new'] })
      try {
        const decipher = createDecipheriv('aes-256-gcm', key, bytes.subarray(0, 12)).setAuthTag(bytes.subarray(-16))
        const plaintext = Buffer.concat([decipher.update(bytes.subarray(12, -16)), decipher.final()]).toString('base64')
        return send(200, { data: { plaintext } })
      } catch {
        return send(400, { errors: ['cipher: message authentication failed'] })
      }
    }
    if (verb === 'sign' && method === 'POST') {
      if (known === undefined) return send(400, { errors: ['signing key not found'] })
      if (body['prehashed'] !== true || body['key_version'] !== 1) return send(400, { errors: ['what this peer does not offer'] })
      const digest = Buffer.from(String(body['input']), 'base64')
      if (digest.length !== (last === 'sha2-384' ? 48 : 32)) return send(400, { errors: ['wrong length of the digest'] })
      const rsa = known.type.startsWith('rsa')
      if (rsa && body['signature_algorithm'] !== 'pkcs1v15') return send(400, { errors: ['PSS is not offered by this peer'] })
      if (!rsa && body['marshaling_algorithm'] !== 'asn1') return send(400, { errors: ['jws is not offered by this peer'] })
      return send(200, { data: { key_version: 1, signature: `vault:v1:${Buffer.from(signDigest(known.key, digest)).toString('base64')}` } })
    }
    send(404, { errors: [] })
  }

  const onRequest = (request: IncomingMessage, response: ServerResponse) => {
    answer(request, response).catch((error: unknown) => response.destroy(error as Error))
  }
  const server = tls === undefined ? createServer(onRequest) : createTlsServer(tls, onRequest)
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const stop = async () => {
    if (!server.listening) return
    const closed = once(server, 'close')
    server.close()
    server.closeAllConnections()
    await closed
  }
  const vault: FakeVault = {
    address: tls === undefined ? `http://127.0.0.1:${port}` : `https://localhost:${port}`,
    requests,
    logins,
    get keys () { return new Map([...keys].map(([name, { key }]) => [name, key])) },
    encryptionKeys,
    fault: () => undefined,
    leaseSeconds: 3600,
    renewable: true,
    revokeTokens: () => { for (const token of tokens) if (token !== 'root') tokens.delete(token) },
    deleteKey: name => { keys.delete(name) },
    stop,
    [Symbol.asyncDispose]: stop
  }
  return vault
}
