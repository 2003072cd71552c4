import t from 'tap'
import { allowedHost, parseAllowedDomain } from '../../src/oidc/allowed-hosts.ts'
import { answerRequest, type Asked, type DocumentsConfig } from '../../src/oidc/answer-request.ts'
import { jwksDocument } from '../../src/oidc/documents.ts'
import type { KeysAnswer } from '../../src/oidc/published-keys.ts'
import { formatPublicJwk } from '../../src/spiffe/json-web-key.ts'
import { makeKey } from './fake-source.ts'

const config: DocumentsConfig = {
  domains: ['oidc.example.org', 'other.test:8443'].map(parseAllowedDomain), jwtIssuer: undefined, jwksUri: undefined, pathPrefix: '',
  allowInsecureScheme: false, cacheMaxSeconds: 300
}
const asked: Asked = {
  method: 'GET', target: '/.well-known/openid-configuration', hosts: ['oidc.example.org'], hasBody: false, ifNoneMatch: undefined,
  isTls: true, listenerPort: 443
}
const keys: KeysAnswer = { kind: 'keys', document: jwksDocument([makeKey('a')], { setKeyUse: false }), maxAgeSeconds: 77 }

function answer (more: Partial<Asked>, change: Partial<DocumentsConfig> = {}, read: KeysAnswer = keys) {
  const { body, ...rest } = answerRequest({ ...config, ...change }, () => read, { ...asked, ...more })
  return { ...rest, text: Buffer.from(body).toString() }
}

void t.test('the discovery document, exactly (spire-surface §8.1)', async t => {
  const { status, headers, text } = answer({})
  t.equal(status, 200)
  t.equal(text, `{
  "issuer": "https://oidc.example.org",
  "jwks_uri": "https://oidc.example.org/keys",
  "authorization_endpoint": "",
  "response_types_supported": [
    "id_token"
  ],
  "subject_types_supported": [
    "public"
  ],
  "id_token_signing_alg_values_supported": [
    "RS256",
    "ES256",
    "ES384"
  ]
}
`)
  t.match(headers, { 'content-type': 'application/json', 'cache-control': 'public, max-age=300', 'access-control-allow-origin': '*' })
  const urls = (more: Partial<Asked>, change: Partial<DocumentsConfig> = {}) => {
    const { issuer, jwks_uri: keys } = JSON.parse(answer(more, change).text) as Record<string, string>
    return [issuer, keys]
  }
  t.same(urls({ hosts: ['other.test:8443'] }), ['https://other.test:8443', 'https://other.test:8443/keys'], 'each domain has its own')
  t.same(urls({ target: '/a/b/.well-known/openid-configuration' }, { pathPrefix: '/a/b' }),
    ['https://oidc.example.org/a/b', 'https://oidc.example.org/a/b/keys'], 'a prefix belongs to the issuer')
  t.same(urls({}, { jwtIssuer: 'https://issuer.test/x' }), ['https://issuer.test/x', 'https://oidc.example.org/keys'], 'jwt_issuer')
  t.same(urls({}, { jwksUri: 'https://cdn.test/jwks' }), ['https://oidc.example.org', 'https://cdn.test/jwks'], 'jwks_uri')
  const plain = { isTls: false, listenerPort: 8080 }
  t.equal(urls(plain)[0], 'https://oidc.example.org', 'without TLS URLs say https: a proxy offers it')
  t.equal(urls(plain, { allowInsecureScheme: true })[0], 'http://oidc.example.org', 'unless allow_insecure_scheme')
  t.equal(urls({}, { allowInsecureScheme: true })[0], 'https://oidc.example.org', 'which means nothing over TLS')
  const byProxy = { isTls: false, listenerPort: undefined, hosts: ['localhost'] }
  t.equal(urls({ ...byProxy, forwarded: { host: 'oidc.example.org', proto: 'https' } }, { allowInsecureScheme: true })[0],
    'https://oidc.example.org', 'a proxy on this machine says who was asked')
  t.match(answer({ ...byProxy, forwarded: { host: 'oidc.example.org', proto: undefined } }).headers, { vary: /X-Forwarded-Host/ })
  t.equal(answer({ ...byProxy, forwarded: { host: 'evil.test', proto: 'https' } }).status, 400)
})

void t.test('the keys, exactly', async t => {
  const some = [makeKey('p256'), makeKey('p384', { type: 'ec-p384' }), makeKey('rsa', { type: 'rsa-2048' })]
  const read = (setKeyUse: boolean) => JSON.parse(String(jwksDocument(some, { setKeyUse }).body)) as unknown
  const jwks = some.map(({ publicKey }) => formatPublicJwk(publicKey))
  const [alg, kid] = [['ES256', 'ES384', 'RS256'], ['p256', 'p384', 'rsa']]
  t.strictSame(read(false), { keys: jwks.map((jwk, index) => ({ kid: kid[index], alg: alg[index], ...jwk })) })
  t.strictSame(read(true), { keys: jwks.map((jwk, index) => ({ use: 'sig', kid: kid[index], alg: alg[index], ...jwk })) }, 'set_key_use')
  const { status, headers, text } = answer({ target: '/keys' })
  t.match({ status, headers }, { status: 200, headers: { 'content-type': 'application/json', 'cache-control': 'public, max-age=77' } })
  t.equal(text, String(keys.document.body))
  t.equal(answer({ target: '/keys' }, {}, { ...keys, maxAgeSeconds: 0 }).headers['cache-control'], 'no-cache')
})

void t.test('who has a copy is told that it is good', async t => {
  const { etag } = keys.document
  for (const header of [etag, `W/${etag}`, `"x", ${etag}`, '*']) {
    const { status, headers, text } = answer({ target: '/keys', ifNoneMatch: header })
    t.same([status, text, headers['etag'], headers['cache-control']], [304, '', etag, 'public, max-age=77'], header)
  }
  for (const header of ['"x"', etag.slice(1, -1), '']) t.equal(answer({ target: '/keys', ifNoneMatch: header }).status, 200, header)
  t.not(jwksDocument([makeKey('a')], { setKeyUse: false }).etag, etag, 'other keys, another tag')
})

void t.test('without keys', async t => {
  const refused = (kind: 'waiting' | 'none' | 'stale') => {
    const { status, headers, text, code } = answer({ target: '/keys' }, {}, { kind })
    t.match(headers, { 'cache-control': 'no-store', 'retry-after': /^\d+$/ }, kind)
    t.equal((JSON.parse(text) as { code: string }).code, code)
    return [status, code]
  }
  t.same(refused('waiting'), [500, 'oidc_keys_unavailable'], 'as SPIRE before its first poll')
  t.same(refused('none'), [501, 'oidc_keys_unavailable'], 'as SPIRE')
  t.same(refused('stale'), [503, 'oidc_keys_unavailable'])
  t.equal(answer({}, {}, { kind: 'stale' }).status, 200, 'the other document is served')
})

void t.test('nothing else is reachable', async t => {
  const tricks = [
    '/', '', '*', '/keys/', '//keys', '/keys?x=1', '/keys?', '/keys#', '/KEYS', '/./keys', '/x/../keys', '/%6beys', '/keys%00', '/keys;a=b',
    '\\keys', '/keys ', 'https://oidc.example.org/keys', 'oidc.example.org:443', '/.well-known/../keys',
    '/.well-known/openid-configuration/', '/.well-known//openid-configuration',
    '/%2ewell-known/openid-configuration', '/.well-known/jwks.json', '/metrics', '/ready', '/live'
  ]
  for (const target of tricks) t.match(answer({ target }), { status: 404, code: 'oidc_request_refused' }, target)
  t.equal(answer({ target: '/keys' }, { pathPrefix: '/p' }).status, 404, 'nor without the prefix')
  for (const method of ['POST', 'PUT', 'DELETE', 'OPTIONS', 'TRACE', 'PATCH', 'CONNECT', 'get']) {
    t.match(answer({ method, target: '/keys' }), { status: 405, headers: { allow: 'GET, HEAD' } }, method)
  }
  t.equal(answer({ method: 'HEAD', target: '/keys' }).status, 200)
  t.match(answer({ hasBody: true }), { status: 400, code: 'oidc_request_refused' })
})

void t.test('only hosts that are named', async t => {
  const refused = [
    '', 'evil.test', 'OIDC.example.org', 'oidc.example.org.', 'oidc.example.org:444', 'oidc.example.org:', 'oidc.example.org:0443',
    'oidc.example.org:443:443', 'a@oidc.example.org', 'oidc.example.org/', 'x.oidc.example.org', 'other.test', 'other.test:443', '[::1]',
    'oidc.example.org, evil.test', 'oidc.example.org@evil.test', 'xoidc.example.org'
  ]
  for (const host of refused) {
    for (const target of ['/keys', asked.target]) {
      t.match(answer({ target, hosts: [host] }), { status: 400, code: 'oidc_host_unknown' }, host)
    }
  }
  t.equal(answer({ hosts: [] }).status, 400, 'none')
  t.equal(answer({ hosts: ['oidc.example.org', 'oidc.example.org'] }).status, 400, 'two, even if they are equal')
  const context = { scheme: 'https', listenerPort: 9443 } as const
  const host = (header: string) => allowedHost(config.domains, header, context)
  t.equal(host('oidc.example.org:443'), 'oidc.example.org', 'the port of the scheme goes without saying')
  t.equal(host('oidc.example.org:9443'), 'oidc.example.org:9443', 'the listener\'s own')
  for (const text of ['*.example.org', 'https://a.test', 'a.test:0', 'a.test:65536', 'a.test/x', 'A.test', '', 'a.test.', ':8443']) {
    t.throws(() => parseAllowedDomain(text), { code: 'config_invalid' }, text)
  }
})
