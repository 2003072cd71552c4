import { isIP } from 'node:net'
import fc from 'fast-check'
import t from 'tap'
import { parseEndpointAddress, type EndpointAddress } from '../../src/spiffe/endpoint-address.ts'
import { SpiffeError } from '../../src/spiffe/errors.ts'

void t.test('locating the Workload API (Workload Endpoint §4)', async t => {
  const accepted: [string, string, EndpointAddress][] = [
    ['WLE-09 an empty authority', 'unix:///run/a.sock', { kind: 'unix', path: '/run/a.sock' }],
    ['WLE-09 no authority', 'unix:/run/a.sock', { kind: 'unix', path: '/run/a.sock' }],
    ['WLE-09 every character of a URI path', "unix:///a-._~!$&'()*+,;=:@b", { kind: 'unix', path: "/a-._~!$&'()*+,;=:@b" }],
    ['WLE-10 IPv4', 'tcp://127.0.0.1:8000', { kind: 'tcp', host: '127.0.0.1', port: 8000 }],
    ['WLE-10 IPv6', 'tcp://[::1]:8000', { kind: 'tcp', host: '::1', port: 8000 }],
    ['WLE-08 a scheme in uppercase is the same URI', 'UNIX:///a', { kind: 'unix', path: '/a' }]
  ]
  for (const [rule, text, address] of accepted) t.strictSame(parseEndpointAddress(text), address, rule)

  const refused: [string, ...string[]][] = [
    ['WLE-08', '', '/run/a.sock', 'http://127.0.0.1:80', 'unix', 'unixx:///a', 'file:///a', ' unix:///a', 'tcp4://127.0.0.1:1',
      'unix:///a b', 'unix:///ä', 'unix:///a\n', 'unix:///a\0', 'unix:///[a]', 'unix:///a\\b'],
    ['WLE-09', 'unix://run/a.sock', 'unix:a.sock', 'unix:///a?x', 'unix:///a?', 'unix:///a#', 'unix:///a#b',
      'unix://', 'unix:', 'unix://localhost/a',
      'unix://user@/a', `unix:///${'a'.repeat(107)}`],
    ['WLE-10', 'tcp://localhost:8000', 'tcp://127.0.0.1', 'tcp://127.0.0.1:8000/',
      'tcp://u@127.0.0.1:8000', 'tcp://127.0.0.1:8000?a', 'tcp://127.0.0.1:8000#a', 'tcp:127.0.0.1:8000', 'tcp://127.0.0.1:', 'tcp://127.0.0.1:0', 'tcp://127.0.0.1:65536', 'tcp://127.0.0.1:+80', 'tcp://127.0.0.1:08',
      'tcp://::1:8000', 'tcp://[127.0.0.1]:80', 'tcp://[::1%25eth0]:80', 'tcp://127.1:80', 'tcp://0127.0.0.1:80', 'tcp://1.2.3.4.5:80',
      'tcp://127.0.0.1:80 ', 'tcp://127.0.0.1:80\n'],
    ['AMB-22', 'unix:///a%2Fb', 'unix:///%61', 'unix:///a%']
  ]
  for (const [requirement, ...texts] of refused) {
    for (const text of texts) {
      const shown = JSON.stringify(text.slice(0, 40))
      t.throws(() => parseEndpointAddress(text), { code: 'endpoint_malformed', requirement }, `${requirement} ${shown}`)
    }
  }
  t.throws(() => parseEndpointAddress('unix:///a/%2e%2e/b'), { code: 'endpoint_malformed' }, 'TS-02 nothing is normalised')
  t.strictSame(parseEndpointAddress('unix:///a/../b'), { kind: 'unix', path: '/a/../b' }, 'TS-02 the path is taken as it stands')
})

void t.test('no crash, nothing outside the grammar', async t => {
  const addresses = fc.oneof(
    fc.tuple(fc.constantFrom('unix:', 'unix://', 'tcp://', 'Unix:', ''), fc.webPath(), fc.string({ maxLength: 3 })).map(parts => parts.join('')),
    fc.tuple(fc.oneof(fc.ipV4(), fc.ipV6().map(ip => `[${ip}]`), fc.domain()), fc.integer({ min: -1, max: 70_000 })).map(([host, port]) => `tcp://${host}:${port}`),
    fc.string({ unit: 'binary' })
  )
  let accepted = 0
  fc.assert(fc.property(addresses, text => {
    let address
    try {
      address = parseEndpointAddress(text)
    } catch (error) {
      return error instanceof SpiffeError && error.code === 'endpoint_malformed' && error.requirement !== undefined
    }
    accepted++
    if (address.kind === 'tcp') {
      const host = isIP(address.host) === 6 ? `[${address.host}]` : address.host
      return isIP(address.host) !== 0 && address.port > 0 && address.port < 65_536 && text === `tcp://${host}:${address.port}`
    }
    // RFC 3986 decides what a URI is; the WHATWG parser must agree on the path unless it has dot segments to resolve.
    const url = new URL(text)
    const hasDots = /\/\.\.?(?:\/|$)/.test(address.path)
    return url.protocol === 'unix:' && url.host === '' && url.search === '' && url.hash === '' && (hasDots || url.pathname === address.path)
  }), { numRuns: 3000 })
  t.ok(accepted > 100, `accepted ${accepted}`)
})
