import 'reflect-metadata'
import { webcrypto } from 'node:crypto'
import { createSecureServer, type ServerHttp2Stream } from 'node:http2'
import { buffer } from 'node:stream/consumers'
import * as x509 from '@peculiar/x509'
import protobuf from 'protobufjs'
import { inNamespace } from '../../src/runtime/network-namespace.ts'
import { parseSpiffeId } from '../../src/spiffe/spiffe-id.ts'
import { encodePem } from '../../src/x509/pem.ts'
import type { TestTrustDomain } from './identities.ts'

const { root } = protobuf.parse(`
  syntax = "proto3";
  message Request { string csr = 1; int64 validity_duration = 3; }
  message Response { repeated string cert_chain = 1; }
`)
const [request, response] = [root.lookupType('Request'), root.lookupType('Response')]

export interface IstioCaOptions {
  readonly domain: TestTrustDomain
  /** Path of the network namespace in which it listens. */
  readonly netns: string
  /** Of the machine in there, for its own certificate. */
  readonly address: string
  readonly port: number
}

/**
 * The certificate service that ztunnel asks for its workloads' certificates (istio.v1.auth.IstioCertificateService/CreateCertificate, by
 * gRPC over TLS): signs whatever SPIFFE ID of its trust domain it is asked for.
 */
export async function startIstioCa ({ domain, netns, address, port }: IstioCaOptions): Promise<AsyncDisposable> {
  const keys = await webcrypto.subtle.generateKey({ name: 'ECDSA', namedCurve: 'P-256' }, true, ['sign', 'verify'])
  const own = await domain.certify(keys.publicKey, [{ type: 'ip', value: address }], period())
  const key = encodePem('PRIVATE KEY', new Uint8Array(await webcrypto.subtle.exportKey('pkcs8', keys.privateKey)))
  const server = createSecureServer({ key, cert: encodePem('CERTIFICATE', own) })
  server.on('stream', stream => void answer(stream, domain).catch((error: unknown) => stream.destroy(error as Error)))
  // Without a host the socket is made within this call.
  inNamespace(netns, () => server.listen(port))
  const sessions = new Set<{ destroy (): void }>()
  server.on('session', session => sessions.add(session))
  return {
    [Symbol.asyncDispose]: () => new Promise(resolve => {
      server.close(() => resolve())
      for (const session of sessions) session.destroy()
    })
  }
}

async function answer (stream: ServerHttp2Stream, domain: TestTrustDomain): Promise<void> {
  // A message of gRPC: one byte of flags, four of length.
  const { csr } = request.decode((await buffer(stream)).subarray(5)) as unknown as { readonly csr: string }
  const asked = new x509.Pkcs10CertificateRequest(csr)
  const names = asked.getExtension('2.5.29.17')
  if (names === null) throw new Error('the request names nobody')
  const id = parseSpiffeId(new x509.SubjectAlternativeNameExtension(names.rawData).names.items[0]?.value ?? '')
  const leaf = await domain.certify(await asked.publicKey.export(webcrypto), [{ type: 'url', value: id }], period())
  const message = response.encode({ certChain: [leaf, domain.root].map(der => encodePem('CERTIFICATE', der)) }).finish()
  const frame = Buffer.alloc(5 + message.length)
  frame.writeUInt32BE(message.length, 1)
  frame.set(message, 5)
  stream.respond({ ':status': 200, 'content-type': 'application/grpc' }, { waitForTrailers: true })
  stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }))
  stream.end(frame)
}

function period (): { notBefore: Date, notAfter: Date } {
  return { notBefore: new Date(Date.now() - 30_000), notAfter: new Date(Date.now() + 3_600_000) }
}
