import fc from 'fast-check'
import t from 'tap'
import { isCaller, parseCallerPattern } from '../../src/spiffe/caller-pattern.ts'
import { checkService, type RawServiceDraft } from '../../src/spiffe/check-service.ts'
import { SpiffeError } from '../../src/spiffe/errors.ts'
import { parseIpAddress } from '../../src/spiffe/ip-address.ts'
import { checkLocalEndpoint, endpointOf } from '../../src/spiffe/service-endpoint.ts'
import { decodeMessage } from '../../src/wire/decode-message.ts'
import { encodeMessage } from '../../src/wire/encode-message.ts'
import { Endpoint as EndpointMessage, Service as ServiceMessage } from '../../src/wire/generated/assay-types.ts'
import { decodeEndpoint, decodeService, encodeEndpoint, encodeService } from '../../src/wire/service-codec.ts'
import { idOf } from '../fakes/entries.ts'
import { makeEndpoint, makeService, rawService } from '../fakes/services.ts'

const port = { name: '', port: 80, targetPort: 0, protocol: '', localPort: 0 }

t.test('a service that is right', async t => {
  t.strictSame(checkService(rawService({ ports: [port] })), {
    id: '', name: 'web', ports: [{ name: '', port: 80, targetPort: 80, protocol: 'tcp' }], spiffeIds: ['spiffe://example.org/web'],
    staticEndpoints: [], inbound: 'strict'
  }, 'what is left out has its default, and callers stay absent: whoever is authenticated')
  const rich = checkService(rawService({
    id: 'shop.web', name: 'web.shop.internal', address: '2001:DB8:0::7', inbound: 'permissive', callers: [],
    ports: [{ ...port, name: 'http', localPort: 1080, protocol: 'http2' }, { ...port, name: 'metrics', port: 9090, targetPort: 9091 }],
    spiffeIds: ['spiffe://example.org/web', 'spiffe://partner.test/web', 'spiffe://example.org/web'],
    staticEndpoints: [{ address: '192.0.2.1', port: 0 }, { address: '192.0.2.2', port: 8443 }]
  }))
  t.equal(rich.address, '2001:db8::7', 'an address has one spelling')
  t.strictSame(rich.spiffeIds, ['spiffe://example.org/web', 'spiffe://partner.test/web'], 'federated ones too, each once')
  t.strictSame(rich.callers, [], 'an empty list is kept: nobody')
  t.strictSame(rich.staticEndpoints, [{ address: '192.0.2.1' }, { address: '192.0.2.2', port: 8443 }])
})

t.test('a service that is refused names the field', async t => {
  const many = <T>(count: number, make: (index: number) => T) => Array.from({ length: count }, (_, index) => make(index))
  const cases: [string, Partial<RawServiceDraft>][] = [
    ['invalid name: empty', { name: '' }],
    ['invalid name: character other than a-z', { name: 'Web' }],
    ['invalid name: has a wildcard', { name: '*.web' }],
    ['invalid name: is an IP address', { name: '10.0.0.1' }],
    ['invalid name: longer than 253 bytes', { name: many(64, () => 'abc').join('.') }],
    ['invalid service id: ', { id: 'a/b' }],
    ['address is no IP address', { address: 'web' }],
    ['address is unspecified', { address: '::' }],
    ['address is multicast', { address: '239.1.1.1' }],
    ['ports is empty', { ports: [] }],
    ['ports has more than 32', { ports: many(33, index => ({ ...port, port: index + 1 })) }],
    ['invalid port: 65536', { ports: [{ ...port, port: 65_536 }] }],
    ['invalid port: 0', { ports: [{ ...port, port: 0 }] }],
    ['invalid target port: 70000', { ports: [{ ...port, targetPort: 70_000 }] }],
    ['invalid local port: 1.5', { ports: [{ ...port, localPort: 1.5 }] }],
    ['invalid protocol: "udp"', { ports: [{ ...port, protocol: 'udp' }] }],
    ['invalid port name: "a.b"', { ports: [{ ...port, name: 'a.b' }] }],
    ['invalid ports: port 80 is repeated', { ports: [port, port] }],
    ['invalid ports: local port 1080 is repeated', { ports: [{ ...port, localPort: 1080 }, { ...port, port: 81, localPort: 1080 }] }],
    ['invalid ports: port name a is repeated', { ports: [{ ...port, name: 'a' }, { ...port, name: 'a', port: 81 }] }],
    ['spiffe_ids is empty', { spiffeIds: [] }],
    ['invalid spiffe_ids: invalid SPIFFE ID "web"', { spiffeIds: ['web'] }],
    ['"spiffe://example.org" is no workload', { spiffeIds: ['spiffe://example.org'] }],
    ['"spiffe://example.org/spire/server" is no workload', { spiffeIds: ['spiffe://example.org/spire/server'] }],
    ['callers has more than 256', { callers: many(257, index => `spiffe://example.org/a${index}`) }],
    ['invalid caller: ', { callers: ['spiffe://example.org/a*'] }],
    ['invalid caller: ', { callers: ['spiffe://example.org'] }],
    ['invalid caller: ', { callers: ['spiffe://example.org/spire/agent/*'] }],
    ['the service is larger than', { spiffeIds: many(40, index => `spiffe://example.org/${index}-`.padEnd(2_000, 'a')) }],
    ['static endpoint\'s address is no IP address', { staticEndpoints: [{ address: 'db.internal', port: 0 }] }],
    ['invalid static endpoint\'s port: -1', { staticEndpoints: [{ address: '192.0.2.1', port: -1 }] }],
    ['invalid inbound: "open"', { inbound: 'open' }]
  ]
  for (const [message, change] of cases) {
    t.throws(() => checkService(rawService(change)), { code: 'service_malformed', message }, message)
  }
})

t.test('callers are named one by one or by a path', async t => {
  const below = parseCallerPattern('spiffe://example.org/shop/*')
  t.ok(isCaller(below, idOf('/shop/web')))
  t.ok(isCaller(below, idOf('/shop/eu/web')), 'at any depth')
  for (const path of ['/shop', '/shops/web', '/bank/shop/web']) t.notOk(isCaller(below, idOf(path)), path)
  t.ok(isCaller(parseCallerPattern('spiffe://example.org/*'), idOf('/web')), 'a whole trust domain')
  t.notOk(isCaller(parseCallerPattern('spiffe://example.org/shop'), idOf('/shop/web')), 'an ID is only itself')
  for (const text of ['*', 'spiffe://example.org*', 'spiffe://*/a', 'spiffe://example.org/a/*/b', 'spiffe://example.org/a/']) {
    t.throws(() => parseCallerPattern(text), { code: 'service_malformed' }, text)
  }
})

t.test('an address is that of one host', async t => {
  for (const text of ['10.0.0.1', '127.0.0.1', 'fe80::1', '::1', '2001:db8::1']) t.equal(parseIpAddress(text, 'address'), text)
  const refused = [
    '', '0.0.0.0', '255.255.255.255', '224.0.0.1', '010.0.0.1', '10.0.0.1:80', '[::1]', 'ff02::1', 'fe80::1%eth0', '::ffff:10.0.0.1',
    '::FFFF:a00:1'
  ]
  for (const text of refused) t.throws(() => parseIpAddress(text, 'address'), { code: 'service_malformed' }, text)
  fc.assert(fc.property(fc.ipV6(), text => {
    try {
      const address = parseIpAddress(text, 'address')
      return parseIpAddress(address, 'address') === address
    } catch (error) {
      return error instanceof SpiffeError
    }
  }))
})

t.test('an endpoint is known by agent, SPIFFE ID and address', async t => {
  const endpoint = makeEndpoint('a')
  t.match(endpoint.id, /^[0-9a-f]{32}$/)
  t.equal(endpointOf(endpoint.agentId, { ...endpoint, incarnation: '2', node: 'other' }).id, endpoint.id)
  const others = [makeEndpoint('b'), makeEndpoint('a', '/api'), makeEndpoint('a', '/web', '10.0.0.2')]
  t.equal(new Set([endpoint, ...others].map(({ id }) => id)).size, 4)
  const local = { ...endpoint, transports: ['quic', 'mtls', 'mtls'] }
  t.strictSame(checkLocalEndpoint(local).transports, ['mtls'], 'what a newer agent offers besides is left out')
  const changes = [{ transports: ['quic'] }, { spiffeId: 'web' }, { address: '::' }, { node: 'a\nb' }, { incarnation: 'x'.repeat(254) }]
  for (const change of changes) {
    t.throws(() => checkLocalEndpoint({ ...endpoint, ...change }), { code: 'service_malformed' }, JSON.stringify(change))
  }
})

t.test('services and endpoints survive the wire', async t => {
  const services = [
    makeService(),
    makeService({
      id: 'x', name: 'api', address: '10.96.0.1', callers: ['spiffe://example.org/shop/*'], inbound: 'permissive', revisionNumber: 7,
      ports: [{ ...port, localPort: 99 }], staticEndpoints: [{ address: '192.0.2.1', port: 0 }]
    }),
    makeService({ callers: [] })
  ]
  for (const service of services) {
    t.strictSame(decodeService(decodeMessage(ServiceMessage, encodeMessage(ServiceMessage, encodeService(service)))), service)
  }
  const endpoint = makeEndpoint('a')
  const message = decodeMessage(EndpointMessage, encodeMessage(EndpointMessage, encodeEndpoint(endpoint)))
  t.strictSame(decodeEndpoint(message), endpoint)
  t.throws(() => decodeEndpoint({ ...message, agentId: 'spiffe://example.org/spire/agent/join_token/b' }), { code: 'service_malformed' })
  t.throws(() => decodeService({ ...decodeMessage(ServiceMessage, encodeMessage(ServiceMessage, encodeService(makeService()))), id: '' }),
    { code: 'service_malformed' })
})
