import fc from 'fast-check'
import t from 'tap'
import { readProxyHeader } from '../../src/rpc/proxy-header.ts'
import { binaryEnds, binaryHeader, signature } from '../fakes/proxy-header.ts'

const line = (text: string) => readProxyHeader(Buffer.from(text, 'latin1'))
const v4 = binaryEnds({ octets: [192, 0, 2, 7], port: 4711 })
const v6 = binaryEnds({ octets: [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9], port: 65_535 })

t.test('headers as proxies write them', async t => {
  const header = (length: number, address: string, port: number) => ({ kind: 'header', length, client: { address, port } })
  const own = (length: number) => ({ kind: 'header', length, client: undefined })
  t.same(line('PROXY TCP4 192.0.2.7 198.51.100.1 4711 8081\r\nand more'), header(45, '192.0.2.7', 4711), 'version 1, what follows is left')
  t.same(line('PROXY TCP6 2001:DB8::9 ::1 65535 0\r\n'), header(36, '2001:db8::9', 65_535), 'one text per address')
  t.same(line('PROXY TCP6 ::FFFF:192.0.2.7 ::1 1 2\r\n'), header(37, '::ffff:192.0.2.7', 1))
  t.same(line('PROXY UNKNOWN\r\n'), own(15))
  t.same(line('PROXY UNKNOWN ffff::1 what ever\r\n'), own(33), 'and then what follows says nothing')
  t.same(readProxyHeader(binaryHeader({ body: v4 })), header(28, '192.0.2.7', 4711), 'version 2')
  t.same(readProxyHeader(binaryHeader({ family: 0x21, body: v6 })), header(52, '2001:db8::9', 65_535))
  t.same(readProxyHeader(binaryHeader({ body: Buffer.concat([v4, Buffer.from('0400020000', 'hex')]) })), header(33, '192.0.2.7', 4711),
    'with extensions')
  t.same(readProxyHeader(binaryHeader({ command: 0, family: 0 })), own(16), 'LOCAL: the proxy itself')
  t.same(readProxyHeader(binaryHeader({ command: 0, body: Buffer.alloc(3) })), own(19), 'whatever it carries')
  t.same(readProxyHeader(binaryHeader({ body: Buffer.concat([v4, Buffer.alloc(4084)]) })), header(4112, '192.0.2.7', 4711))
})

t.test('what is no header', async t => {
  const others = ['\x16\x03\x01', 'GET / HTTP/1.1\r\n', 'PROXYING', 'proxy TCP4', '\r\n\r\nx', 'P\r']
  for (const bytes of others) t.same(line(bytes), { kind: 'none' })
})

t.test('malformed headers', async t => {
  const lines = {
    'a line that does not end': `PROXY UNKNOWN ${'x'.repeat(93)}`, 'LF alone': 'PROXY TCP4 192.0.2.7 198.51.100.1 1 2\n',
    'no protocol': 'PROXY \r\n', 'another protocol': 'PROXY UDP4 192.0.2.7 198.51.100.1 1 2\r\n',
    'a name': 'PROXY TCP4 host 198.51.100.1 1 2\r\n', 'IPv6 for TCP4': 'PROXY TCP4 ::1 ::1 1 2\r\n',
    'IPv4 for TCP6': 'PROXY TCP6 192.0.2.7 198.51.100.1 1 2\r\n', 'a zone': 'PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n',
    'leading zeros': 'PROXY TCP4 192.0.2.007 198.51.100.1 1 2\r\n',
    'a port that is too high': 'PROXY TCP4 192.0.2.7 198.51.100.1 65536 2\r\n',
    'a port with a zero before': 'PROXY TCP4 192.0.2.7 198.51.100.1 080 2\r\n',
    'a port with a sign': 'PROXY TCP4 192.0.2.7 198.51.100.1 +1 2\r\n',
    'too few words': 'PROXY TCP4 192.0.2.7 198.51.100.1 1\r\n', 'too many': 'PROXY TCP4 192.0.2.7 198.51.100.1 1 2 3\r\n',
    'two spaces': 'PROXY TCP4  192.0.2.7 198.51.100.1 1 2\r\n'
  }
  for (const [what, text] of Object.entries(lines)) t.match(line(text), { kind: 'malformed', rule: /\w/ }, what)
  const binary = {
    'version 1': { version: 1, body: v4 }, 'version 3': { version: 3, body: v4 }, 'another command': { command: 2, body: v4 },
    'a family there is none of': { family: 0x41, body: v4 }, 'a protocol there is none of': { family: 0x13, body: v4 },
    'a family that LOCAL may not have either': { command: 0, family: 0x13 },
    'a client over UDP': { family: 0x12, body: v4 }, 'one over a Unix socket': { family: 0x31, body: Buffer.alloc(216) },
    'a client of no family': { family: 0, body: v4 }, 'too short for IPv4': { size: 11 }, 'too short for IPv6': { family: 0x21, size: 35 },
    'too long': { size: 4097 }, 'too long for LOCAL too': { command: 0, size: 65_535 }
  }
  for (const [what, options] of Object.entries(binary)) {
    t.match(readProxyHeader(binaryHeader(options)), { kind: 'malformed', rule: /\w/ }, `${what}, before the rest has come`)
  }
})

t.test('a header is the same in however many pieces it comes', async () => {
  const octets = fc.oneof(fc.array(fc.nat(255), { minLength: 4, maxLength: 4 }), fc.array(fc.nat(255), { minLength: 16, maxLength: 16 }))
  const port = fc.nat(65_535)
  const binary = fc.tuple(octets, port, fc.uint8Array({ maxLength: 300 })).map(([octets, port, more]) => ({
    bytes: binaryHeader({
      family: octets.length === 4 ? 0x11 : 0x21, body: Buffer.concat([binaryEnds({ octets, port }), more])
    }),
    port
  }))
  const lines = fc.oneof(
    fc.tuple(fc.ipV4(), port).map(([address, port]) => ({ bytes: Buffer.from(`PROXY TCP4 ${address} 10.0.0.1 ${port} 8081\r\n`), port })),
    fc.tuple(fc.ipV6(), port).map(([address, port]) => ({ bytes: Buffer.from(`PROXY TCP6 ${address} ::1 ${port} 8081\r\n`), port }))
  )
  fc.assert(fc.property(fc.oneof(binary, lines), fc.uint8Array({ maxLength: 40 }), ({ bytes, port }, after) => {
    for (let length = 0; length < bytes.length; length++) {
      if (readProxyHeader(bytes.subarray(0, length)).kind !== 'unfinished') return false
    }
    const whole = readProxyHeader(Buffer.concat([bytes, after]))
    return whole.kind === 'header' && whole.length === bytes.length && whole.client?.port === port
  }))
})

t.test('whatever comes is decided on before much has been kept', async () => {
  const start = fc.constantFrom(Buffer.alloc(0), signature, ...['PROXY ', 'PROXY TCP4 ', 'PROXY UNKNOWN '].map(text => Buffer.from(text)))
  fc.assert(fc.property(start, fc.uint8Array({ maxLength: 5_000 }), (start, rest) => {
    const bytes = Buffer.concat([start, rest])
    const reading = readProxyHeader(bytes)
    if (reading.kind === 'unfinished') return bytes.length < (start === signature ? 16 + 4096 : 107)
    return reading.kind !== 'header' || (reading.length <= bytes.length && reading.length <= 4112)
  }), { numRuns: 2_000 })
})
