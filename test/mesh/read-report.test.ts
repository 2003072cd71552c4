import t from 'tap'
import { readHttpReport, readTcpReport } from '../../src/mesh/decisions/read-report.ts'
import { decodeMessage } from '../../src/wire/decode-message.ts'
import { encodeMessage } from '../../src/wire/encode-message.ts'
import { HTTPAccessLogEntry, type AccessLogCommonInit, TCPAccessLogEntry } from '../../src/wire/generated/envoy-access-log-data.ts'

const startTime = { seconds: 1_767_225_600n, nanos: 250_999_999 }
const customTags = { source: 'spiffe://a.test/web', source_address: '-', destination: 'spiffe://a.test/db' }
type Texts = Readonly<Record<string, string>>
const http = (told: Texts, common: AccessLogCommonInit = {}, requestHeaders: Texts = {}) =>
  readHttpReport(decodeMessage(HTTPAccessLogEntry, encodeMessage(HTTPAccessLogEntry, {
    commonProperties: {
      startTime, customTags, ...common,
      metadata: { filterMetadata: { 'envoy.filters.http.rbac': {
        fields: Object.fromEntries(Object.entries(told).map(([name, stringValue]) => [name, { stringValue }]))
      } } }
    },
    request: { requestHeaders }
  })))
const tcp = (connectionTerminationDetails: string, more: AccessLogCommonInit = {}) =>
  readTcpReport(decodeMessage(TCPAccessLogEntry, encodeMessage(TCPAccessLogEntry, {
    commonProperties: { startTime, customTags, connectionTerminationDetails, ...more }
  })))

t.test('what Envoy\'s filters say of a request', async t => {
  const allow = { allow_enforced_engine_result: 'allowed', allow_enforced_effective_policy_id: 'p/yes' }
  const deny = { deny_enforced_engine_result: 'allowed', deny_enforced_effective_policy_id: 'none' }
  t.match(http({ ...deny, ...allow }), { allowed: true, rule: 'p/yes' })
  t.match(http({ ...deny, deny_shadow_engine_result: 'denied' }), { allowed: true, rule: undefined }, 'shadow rules refuse nobody')
  t.match(http({ deny_enforced_engine_result: 'denied', deny_enforced_effective_policy_id: 'p/no#2' }), { allowed: false, rule: 'p/no' },
    'of several rules of one name')
  t.match(http({ ...deny, allow_enforced_engine_result: 'denied', allow_enforced_effective_policy_id: '' }),
    { allowed: false, rule: undefined })
  t.match(http({ federation_enforced_engine_result: 'denied', federation_enforced_effective_policy_id: 'federation/b.test' }),
    { allowed: false, rule: 'federation/b.test' })
  t.equal(http({}), undefined, 'without a verdict somebody else was asked')
  t.equal(http({ audit_enforced_engine_result: 'allowed' }), undefined)
})

t.test('facts of a request', async t => {
  const report = http({ allow_enforced_engine_result: 'denied' }, {
    downstreamDirectRemoteAddress: { socketAddress: { address: '10.0.0.9', portValue: 4_000 } },
    downstreamLocalAddress: { socketAddress: { address: '10.0.0.2', portValue: 8_080 } },
    tlsProperties: { tlsSniHostname: 'db' }
  }, { ':method': 'PURGE', ':path': '/a?b', ':authority': 'db:80', 'x-request-id': 'r', traceparent: '00-x' })
  t.strictSame(report?.request, {
    source: { id: 'spiffe://a.test/web', address: '10.0.0.9' },
    destination: { id: 'spiffe://a.test/db', address: '10.0.0.2', port: 8_080 },
    http: { method: 'PURGE', path: '/a?b', host: 'db:80', headers: new Map([['x-request-id', 'r'], ['traceparent', '00-x']]) },
    tls: { version: undefined, sni: 'db' },
    time: new Date('2026-01-01T00:00:00.250Z')
  })
  t.equal(report?.requestId, 'r')
  const tags = (source: string) => ({ customTags: { ...customTags, source, source_address: '10.0.0.1' } })
  t.match(http({ allow_enforced_engine_result: 'denied' }, tags('-'))?.request.source, { id: undefined, address: '10.0.0.1' },
    'of a tunnel its own address')
  for (const nobody of ['', 'spiffe://a.test/x,spiffe://a.test/y', 'CN=web', 'spiffe://A.test/']) {
    t.equal(http({ allow_enforced_engine_result: 'denied' }, tags(nobody))?.request.source.id, undefined, nobody)
  }
})

t.test('what Envoy says of a connection', async t => {
  t.match(tcp(''), { allowed: true, rule: undefined, request: { http: undefined, tls: undefined } })
  t.match(tcp('rbac_access_denied_matched_policy[p/no]'), { allowed: false, rule: 'p/no' })
  t.match(tcp('rbac_access_denied_matched_policy[none]'), { allowed: false, rule: undefined })
  for (const before of ['revoked', 'several-names']) t.equal(tcp(`rbac_access_denied_matched_policy[${before}]`), undefined, before)
  t.match(tcp('duration_timeout'), { allowed: true })
  t.equal(tcp('', { metadata: { filterMetadata: { 'envoy.filters.network.ext_authz': { fields: {} } } } }), undefined,
    'the agent was asked')
})
