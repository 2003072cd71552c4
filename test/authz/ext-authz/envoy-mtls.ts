import { request } from 'node:https'
import { encodePem } from '../../../src/x509/pem.ts'
import { createTestAuthority, type TestSvid } from '../../fakes/authority.ts'
import { type Envoy, localAddress } from '../../fakes/envoy.ts'

const types = 'type.googleapis.com/envoy.extensions'

/** Certificates of one trust domain and an Envoy's listener that wants them. */
export async function openPki (trustDomain = 'example.org') {
  const authority = await createTestAuthority(trustDomain)
  const pem = ({ chain }: Pick<TestSvid, 'chain'>) => chain.map(der => encodePem('CERTIFICATE', der)).join('')
  const key = ({ privateKey }: TestSvid) => encodePem('PRIVATE KEY', privateKey)
  const roots = authority.bundle.x509Authorities.map(root => encodePem('CERTIFICATE', root.certificate)).join('')
  const known = new Map<string, { cert: string, key: string }>()
  async function identityOf (id: string) {
    const before = known.get(id)
    if (before !== undefined) return before
    const svid = await authority.issue(id)
    const identity = { cert: pem(svid), key: key(svid) }
    known.set(id, identity)
    return identity
  }
  return { roots, identityOf }
}

export type Pki = Awaited<ReturnType<typeof openPki>>

/**
 * A listener of a workload that asks for clients' certificates, and answers 200 to what its filters let through.
 * @param told headers of that answer, as Envoy formats them: what the workload would have seen, say
 */
export async function mtlsListener (
  pki: Pki, name: string, id: string, httpFilters: readonly object[], requireClient = true, told: Readonly<Record<string, string>> = {}
): Promise<object> {
  const { cert, key } = await pki.identityOf(id)
  return {
    name,
    address: localAddress(0),
    filter_chains: [{
      transport_socket: {
        name: 'tls',
        typed_config: {
          '@type': `${types}.transport_sockets.tls.v3.DownstreamTlsContext`,
          require_client_certificate: requireClient,
          common_tls_context: {
            tls_certificates: [{ certificate_chain: { inline_string: cert }, private_key: { inline_string: key } }],
            validation_context: { trusted_ca: { inline_string: pki.roots } }
          }
        }
      },
      filters: [{
        name: 'http',
        typed_config: {
          '@type': `${types}.filters.network.http_connection_manager.v3.HttpConnectionManager`,
          stat_prefix: name,
          normalize_path: true,
          merge_slashes: true,
          path_with_escaped_slashes_action: 'KEEP_UNCHANGED',
          forward_client_cert_details: 'SANITIZE_SET',
          set_current_client_cert_details: { uri: true },
          route_config: { virtual_hosts: [{
            name: 'all', domains: ['*'],
            response_headers_to_add: Object.entries(told).map(([key, value]) => ({ header: { key, value } })),
            routes: [{ match: { prefix: '/' }, direct_response: { status: 200, body: { inline_string: 'served' } } }]
          }] },
          http_filters: [...httpFilters, { name: 'router', typed_config: { '@type': `${types}.filters.http.router.v3.Router` } }]
        }
      }]
    }]
  }
}

export interface Asked { readonly status: number, readonly body: string, readonly headers: Readonly<Record<string, unknown>> }

/** @param id whose certificate is shown; `undefined`: none @param path sent as it is */
export async function ask (
  envoy: Envoy, pki: Pki, listener: string, id: string | undefined, method: string, path: string, headers: Record<string, string> = {}
): Promise<Asked> {
  const port = await envoy.listenerPort(listener)
  const identity = id === undefined ? {} : await pki.identityOf(id)
  return new Promise((resolve, reject) => {
    const options = { host: '127.0.0.1', port, method, path, headers, ...identity, rejectUnauthorized: false, agent: false }
    const sent = request(options, response => {
      let body = ''
      response.setEncoding('utf8').on('data', text => { body += text })
      response.on('end', () => resolve({ status: response.statusCode ?? 0, body, headers: response.headers }))
    })
    sent.on('error', reject).end()
  })
}
