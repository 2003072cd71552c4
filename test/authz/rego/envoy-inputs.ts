import { sign, type KeyObject } from 'node:crypto'

export interface TokenKeys { readonly ec: KeyObject, readonly rsa: KeyObject, readonly secret: string }

/** Inputs as OPA's Envoy plugin makes them of a CheckRequest. @param certificate in PEM */
export function envoyInputs (keys: TokenKeys, nowSeconds: number, certificate: string): Readonly<Record<string, unknown>> {
  const claims = { iss: 'https://issuer.example', aud: ['shop', 'other'], sub: 'ann', scope: 'read write', level: 3, exp: nowSeconds + 60,
    nbf: nowSeconds - 60 }
  const bearer = (token: string) => ({ authorization: `Bearer ${token}` })
  const asked = (headers: Readonly<Record<string, string>>) => request({ method: 'POST', path: '/orders', headers })
  return {
    public: request({ method: 'GET', path: '/public/index.html?page=3&q=a+b', headers: { 'user-agent': 'Mozilla/5.0' },
      query: { page: ['3'], q: ['a b'] } }),
    nobody: request({ method: 'POST', path: '/api/v2/orders/12345', headers: { 'content-length': '2000' } }),
    shop: request({ method: 'POST', path: '/api/v2/orders/12345', principal: 'spiffe://example.org/shop',
      headers: { 'content-length': '20' } }),
    stranger: request({
      method: 'DELETE', path: '/users/bob/cart', principal: 'spiffe://example.org/stranger', address: '192.0.2.7',
      headers: { 'content-length': '2000' },
      certificate: encodeURIComponent(certificate)
    }),
    body: request({
      method: 'PUT', path: '/cart', principal: 'spiffe://example.org/shop',
      body: { amount: 12.5, items: [{ name: 'a', price: 2.5, count: 2 }, { name: 'b', price: 1, count: 3 },
        { name: 'a', price: 0, count: 1 }], ü: '\u2028"\\' }
    }),
    'good token': asked(bearer(signToken('ES256', keys.ec, claims))),
    'token by RSA': asked(bearer(signToken('RS256', keys.rsa, claims))),
    'token expired': asked(bearer(signToken('ES256', keys.ec, { ...claims, exp: nowSeconds }))),
    'token not yet valid': asked(bearer(signToken('ES256', keys.ec, { ...claims, nbf: nowSeconds + 1 }))),
    'token for others': asked(bearer(signToken('ES256', keys.ec, { ...claims, aud: 'other' }))),
    'token of others': asked(bearer(signToken('ES256', keys.ec, { ...claims, iss: 'https://else.example' }))),
    'token with a bad signature': asked(bearer(signToken('ES256', keys.ec, claims).replace(/.{6}$/, 'AAAAAA'))),
    'token that says none': asked(bearer(`${base64({ alg: 'none' })}.${base64(claims)}.`)),
    'token of a key nobody knows': asked(bearer(signToken('ES256', keys.ec, claims, 'unknown'))),
    'no token': asked({ authorization: 'Bearer x' }),
    'empty object': {}
  }
}

function signToken (alg: 'ES256' | 'RS256', key: KeyObject, claims: unknown, kid: string = alg): string {
  const signed = `${base64({ alg, kid, typ: 'JWT' })}.${base64(claims)}`
  return `${signed}.${sign('sha256', Buffer.from(signed), { key, dsaEncoding: 'ieee-p1363' }).toString('base64url')}`
}

function base64 (value: unknown): string { return Buffer.from(JSON.stringify(value)).toString('base64url') }

interface Asked {
  readonly method: string, readonly path: string, readonly headers?: Readonly<Record<string, string>>, readonly principal?: string
  readonly address?: string, readonly body?: unknown, readonly query?: Readonly<Record<string, readonly string[]>>,
  readonly certificate?: string
}

function request ({ method, path, headers = {}, principal, address = '10.1.2.3', body, query = {}, certificate }: Asked): unknown {
  return {
    attributes: {
      source: { address: { socketAddress: { address, portValue: 41234 } }, principal, certificate },
      destination: { address: { socketAddress: { address: '10.9.9.9', portValue: 8443 } } },
      request: {
        time: '2026-11-26T05:30:00.123456Z',
        http: { id: '1', method, headers: { ':method': method, ':path': path, ...headers }, path, host: 'shop.example', scheme: 'https',
          protocol: 'HTTP/2' }
      }
    },
    parsed_path: (path.split('?')[0] as string).split('/').slice(1), parsed_query: query, parsed_body: body, truncated_body: false,
    version: { encoding: 'protojson', ext_authz: 'v3' }
  }
}
