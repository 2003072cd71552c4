import fc from 'fast-check'
import t from 'tap'
import { readCheck } from '../../../src/authz/ext-authz/read-check.ts'
import { PolicyEngine } from '../../../src/authz/policy/policy-engine.ts'
import { SpiffeError } from '../../../src/spiffe/errors.ts'
import { encodeMessage } from '../../../src/wire/encode-message.ts'
import { CheckRequest, type CheckRequestInit } from '../../../src/wire/generated/envoy-authorization.ts'
import { policiesOf } from '../rbac/policies-of.ts'

const now = new Date('2026-01-01T12:00:00Z')
const read = (init: CheckRequestInit) => readCheck(encodeMessage(CheckRequest, init), now)
const socketAddress = (address: string, portValue: number) => ({ address: { socketAddress: { address, portValue } } })

const whole: CheckRequestInit = { attributes: {
  source: { principal: 'spiffe://example.org/web', ...socketAddress('10.0.0.1', 5_000) },
  destination: { principal: 'spiffe://example.org/db', ...socketAddress('10.0.0.2', 8_443) },
  request: { http: { method: 'GET', path: '/a?b=c', host: 'db', headers: { 'x-request-id': 'r-1', accept: '*/*' } } },
  tlsSession: { sni: 'db.internal' }
} }

t.test('what Envoy says becomes the facts that rules ask about', t => {
  const { request, requestId } = read(whole)
  t.equal(requestId, 'r-1')
  t.same({ ...request, http: undefined }, {
    source: { id: 'spiffe://example.org/web', address: '10.0.0.1' },
    destination: { id: 'spiffe://example.org/db', address: '10.0.0.2', port: 8_443 },
    http: undefined,
    tls: { version: undefined, sni: 'db.internal' },
    time: now
  })
  const { http } = request
  t.same([http?.method, http?.path, http?.host], ['GET', '/a?b=c', 'db'])
  t.same([...http?.headers ?? []], [['x-request-id', 'r-1'], ['accept', '*/*']])
  t.end()
})

t.test('who calls is TLS\'s to say', t => {
  const principal = (text: string) => read({ attributes: { source: { principal: text } } }).request.source.id
  t.equal(principal('spiffe://example.org/web'), 'spiffe://example.org/web')
  for (const other of ['', 'CN=web', 'web.example.org', 'spiffe://Example.org/web', 'spiffe://example.org/web/', 'https://example.org']) {
    t.equal(principal(other), undefined, JSON.stringify(other))
  }
  t.end()
})

t.test('the destination is Envoy\'s certificate\'s, or what its configuration says', t => {
  const { attributes } = whole
  const said = read({ attributes: { ...attributes, contextExtensions: { 'assay.destination': 'spiffe://example.org/other' } } })
  t.equal(said.request.destination.id, 'spiffe://example.org/other')
  t.equal(read({ attributes: { contextExtensions: { 'assay.destination': 'nonsense' } } }).request.destination.id, undefined)
  t.end()
})

t.test('a connection without HTTP has no HTTP facts', t => {
  t.equal(read({ attributes: { request: { http: { method: '' } } } }).request.http, undefined)
  t.equal(read({ attributes: { request: {} } }).request.http, undefined)
  t.end()
})

t.test('headers as they came: the last name is not the only one', t => {
  const { request } = read({ attributes: { request: { http: {
    method: 'GET', headerMap: { headers: [{ key: 'a', value: '1' }, { key: 'a', rawValue: Buffer.from('2') }] }
  } } } })
  t.equal(request.http?.headers.get('a'), '1,2')
  t.end()
})

t.test('claims that Envoy\'s JWT filter verified, if there is one token', t => {
  const payload = (sub: string) => ({ structValue: { fields: { iss: { stringValue: 'https://i' }, sub: { stringValue: sub } } } })
  const claims = (fields: Record<string, ReturnType<typeof payload>>) => read({ attributes: {
    request: { http: { method: 'GET' } }, metadataContext: { filterMetadata: { 'envoy.filters.http.jwt_authn': { fields } } }
  } }).request.http?.claims
  t.same(claims({ one: payload('a') }), { iss: 'https://i', sub: 'a' })
  t.equal(claims({ one: payload('a'), two: payload('b') }), undefined, 'of two nobody knows which is meant')
  const engine = new PolicyEngine(policiesOf([
    { name: 'no', action: 'deny', when: [{ claim: { path: 'sub', values: ['a'] } }] },
    { name: 'yes', action: 'allow', when: [{ claim: { path: 'sub', notValues: ['c'] } }] }
  ]))
  const decide = (...subjects: string[]) => engine.decide(read({ attributes: {
    request: { http: { method: 'GET' } }, metadataContext: { filterMetadata: { 'envoy.filters.http.jwt_authn': {
      fields: Object.fromEntries(subjects.map((sub, i) => [`${i}`, payload(sub)]))
    } } }
  } }).request).rule
  t.same([decide('a'), decide('b'), decide('c')], ['p/no', 'p/yes', undefined])
  t.equal(decide('a', 'b'), 'p/no', 'and a second token takes nobody out of what is denied to the first')
  t.equal(decide(), 'p/yes', 'who has none claims nothing')
  t.end()
})

t.test('malformed bytes are refused, whatever they are', t => {
  const bytes = encodeMessage(CheckRequest, whole)
  for (let length = 1; length < bytes.length; length++) {
    try {
      readCheck(bytes.subarray(0, length), now)
    } catch (error) {
      if (!(error instanceof SpiffeError) || error.code !== 'message_malformed') throw error
    }
  }
  fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), random => {
    try {
      readCheck(random, now)
      return true
    } catch (error) {
      return error instanceof SpiffeError && error.code === 'message_malformed'
    }
  }), { numRuns: 5_000 })
  t.end()
})
