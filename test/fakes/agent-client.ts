import { generateKeyPairSync, type KeyObject } from 'node:crypto'
import { openTlsChannel, type Channel } from '../../src/rpc/channel.ts'
import { silentLogger } from '../../src/runtime/logger.ts'
import { agentService } from '../../src/wire/generated/server-agent.ts'
import { bundleService } from '../../src/wire/generated/server-bundle.ts'
import { createCertificateRequest } from '../../src/x509/certificate-request.ts'

export interface TestIdentity { readonly chain: readonly Uint8Array[], readonly privateKey: Uint8Array, readonly key: KeyObject }

/** A server wherever it runs: in this process, or in one of its own. */
export interface ServerAccess {
  readonly ready: { readonly port: number }
  /** Over the admin socket. */
  readonly admin: Channel
}

export function newKey (): KeyObject { return generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey }

/** A channel to the server's TLS listener that trusts whatever answers; with an identity or anonymous. */
export function openServerChannel (server: Pick<ServerAccess, 'ready'>, identity?: Pick<TestIdentity, 'chain' | 'privateKey'>): Channel {
  return openTlsChannel({
    address: `127.0.0.1:${server.ready.port}`,
    verifyServer: () => {},
    log: silentLogger,
    ...(identity === undefined ? {} : { identity: () => identity })
  })
}

export async function createJoinToken (server: ServerAccess, agentId?: { trustDomain: string, path: string }): Promise<string> {
  const { value } = await server.admin.client(agentService).createJoinToken({ ttl: 600, agentId })
  return value
}

/** Attests with a fresh token, or the given one. @throws {RpcError} */
export async function attest (server: ServerAccess, token?: string): Promise<TestIdentity> {
  await using channel = openServerChannel(server)
  return await attestOver(channel, token ?? await createJoinToken(server))
}

/** The same over a channel that is there already. @throws {RpcError} */
export async function attestOver (channel: Channel, token: string): Promise<TestIdentity> {
  const key = newKey()
  const payload = Buffer.from(token)
  const requests = (async function * () {
    yield { params: { data: { type: 'join_token', payload }, params: { csr: createCertificateRequest(key) } } }
  })()
  for await (const { result } of channel.client(agentService).attestAgent(requests)) {
    return identityOf(result?.svid?.certChain ?? [], key)
  }
  throw new Error('no answer')
}

export function identityOf (chain: readonly Uint8Array[], key: KeyObject): TestIdentity {
  return { chain, key, privateKey: key.export({ format: 'der', type: 'pkcs8' }) }
}

export async function fetchBundle (server: ServerAccess) {
  return await server.admin.client(bundleService).getBundle({})
}
