import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { createServer, request as plainRequest } from 'node:http'
import { connect, createSecureServer } from 'node:http2'
import { request as tlsRequest } from 'node:https'
import type { Server as NetServer, Socket } from 'node:net'
import { join } from 'node:path'
import type { TLSSocket } from 'node:tls'
import { parse } from 'yaml'
import { openUnixChannel } from '../../src/rpc/channel.ts'
import { workloadService } from '../../src/wire/generated/workload.ts'
import { encodePem } from '../../src/x509/pem.ts'
import { Envoy, localAddress, type HttpAnswer } from '../fakes/envoy.ts'
import { pemOf, type Identity } from '../fakes/forge.ts'
import { folderOfConfigs } from './mesh.ts'

export interface Moves {
  readonly agentSocket: string
  /** Port on 127.0.0.1 that the file names → port where it really is. */
  readonly ports?: Readonly<Record<number, number>>
  /** Path that the file names → path where it really is. */
  readonly paths?: Readonly<Record<string, string>>
}

interface Bootstrap { admin?: object, static_resources: { listeners: { address?: object }[] } }

/** A file of `envoy-configs/` as it stands, but that its listeners take free ports and what it connects to is elsewhere. */
async function readGalleryFile (file: string, { agentSocket, ports = {}, paths = {} }: Moves): Promise<object> {
  const yaml = await readFile(join(folderOfConfigs, file), 'utf8')
  const moved = Object.entries({ ...paths, '/tmp/assay-agent/public/api.sock': agentSocket })
    .reduce((text, [from, to]) => text.replaceAll(from, to), yaml)
    .replaceAll(/(?<=port_value: |127\.0\.0\.1:)\d+/g, port => String(ports[Number(port)] ?? port))
  const config = parse(moved) as Bootstrap
  delete config.admin
  for (const listener of config.static_resources.listeners) if (listener.address !== undefined) listener.address = localAddress(0)
  return config
}

export async function startGalleryEnvoy (file: string, moves: Moves): Promise<Envoy> {
  return await Envoy.start(await readGalleryFile(file, moves))
}

export interface Server extends AsyncDisposable {
  readonly port: number
  /** Ends all connections. */
  cut (): void
}

/** A plain HTTP workload that answers with its name and the headers that reached it. */
export async function startEcho (name: string): Promise<Server> {
  const server = createServer((request, response) => { response.end(JSON.stringify({ name, headers: request.headers })) })
  return await listening(server)
}

export interface MtlsServer extends Server {
  /** How many there have been. */
  readonly connections: number
  /** Shows another certificate, and ends all connections made under the last one. */
  become (identity: Identity): void
}

/** An mTLS peer, HTTP/2, that lets everybody in and answers with the ID of who called. */
export async function startMtlsServer (identity: Identity): Promise<MtlsServer> {
  let connections = 0
  const server = createSecureServer({ ...keyPair(identity), requestCert: true, rejectUnauthorized: false }, (request, response) => {
    response.end(uriOf(request.stream.session?.socket as TLSSocket))
  })
  server.on('secureConnection', () => { connections++ })
  const base = await listening(server)
  return {
    ...base,
    get connections () { return connections },
    become (other) {
      server.setSecureContext(keyPair(other))
      base.cut()
    }
  }
}

export interface Call {
  /** The client's certificate; none unless given. */
  readonly as?: Identity | undefined
  readonly serverName?: string
  readonly path?: string
  readonly method?: string
  readonly headers?: Readonly<Record<string, string>>
}

export interface TlsAnswer { readonly status: number, readonly body: string, readonly server: string }

/**
 * One HTTP/1.1 request over TLS on a connection of its own. The server's certificate is told, not judged.
 * @returns `refused` when no answer came
 */
export function callTls (port: number, call: Call): Promise<TlsAnswer | 'refused'> {
  const { as, serverName = '', path = '/', method = 'GET', headers = {} } = call
  return new Promise(resolve => {
    const sent = tlsRequest({
      host: '127.0.0.1', port, path, method, headers, servername: serverName, agent: false, rejectUnauthorized: false, timeout: 60_000,
      ...as === undefined ? {} : keyPair(as)
    }, response => {
      const server = uriOf(response.socket as TLSSocket)
      let body = ''
      response.setEncoding('utf8').on('data', text => { body += text }).on('error', () => resolve('refused'))
        .on('end', () => resolve({ status: response.statusCode ?? 0, body, server }))
    })
    sent.on('timeout', () => sent.destroy()).on('error', () => resolve('refused')).on('close', () => resolve('refused')).end()
  })
}

/** @returns the status alone */
export async function statusOf (port: number, call: Call): Promise<number | 'refused'> {
  const answer = await callTls(port, call)
  return answer === 'refused' ? answer : answer.status
}

/** @returns the status by which a peer answers HTTP CONNECT; `refused` when it does not */
export async function statusOfTunnel (port: number, as: Identity, authority: string): Promise<number | 'refused'> {
  const session = connect(`https://127.0.0.1:${port}`, { ...keyPair(as), rejectUnauthorized: false })
  try {
    return await new Promise(resolve => {
      const refused = () => resolve('refused')
      session.on('error', refused)
      session.request({ ':method': 'CONNECT', ':authority': authority }).on('response', headers => resolve(headers[':status'] ?? 'refused'))
        .on('error', refused).on('close', refused)
    })
  } finally {
    session.destroy()
  }
}

/** A JWT-SVID that the agent gives this process. */
export async function fetchToken (agentSocket: string, spiffeId: string, audience: string): Promise<string> {
  await using channel = openUnixChannel(agentSocket)
  const options = { metadata: { 'workload.spiffe.io': 'true' } }
  const { svids: [token] } = await channel.client(workloadService).fetchJWTSVID({ spiffeId, audience: [audience] }, options)
  if (token === undefined) throw new Error(`the agent has no token of ${spiffeId}`)
  return token.svid
}

/** A plain GET from another address of the loopback. */
export function getFrom (localAddress: string, port: number): Promise<HttpAnswer | 'refused'> {
  return new Promise(resolve => {
    const sent = plainRequest({ host: '127.0.0.1', port, localAddress, agent: false, timeout: 60_000 }, response => {
      let body = ''
      response.setEncoding('utf8').on('data', text => { body += text }).on('error', () => resolve('refused'))
        .on('end', () => resolve({ status: response.statusCode ?? 0, headers: response.headers as Record<string, string>, body }))
    })
    sent.on('timeout', () => sent.destroy()).on('error', () => resolve('refused')).end()
  })
}

function keyPair (identity: Identity): { readonly cert: string, readonly key: string } {
  return { cert: pemOf(identity), key: encodePem('PRIVATE KEY', identity.privateKey) }
}

function uriOf (socket: TLSSocket): string {
  return /URI:([^,]*)/.exec(socket.getPeerCertificate().subjectaltname ?? '')?.[1] ?? ''
}

async function listening (server: NetServer): Promise<Server> {
  const sockets = new Set<Socket>()
  server.on('connection', (socket: Socket) => {
    sockets.add(socket)
    socket.on('close', () => sockets.delete(socket))
  })
  await once(server.listen(0, '127.0.0.1'), 'listening')
  const cut = () => { for (const socket of sockets) socket.destroy() }
  return {
    port: (server.address() as { port: number }).port,
    cut,
    async [Symbol.asyncDispose] () {
      cut()
      await new Promise(resolve => { server.close(resolve) })
    }
  }
}
