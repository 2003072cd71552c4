import t from 'tap'
import { parseNetwork } from '../../../src/authz/policy/network.ts'
import { PathTemplate } from '../../../src/authz/policy/path-template.ts'
import { regularHost, regularPath } from '../../../src/authz/policy/request-path.ts'
import { TimeWindow } from '../../../src/authz/policy/time-window.ts'

t.test('a path has one meaning, or none that a rule could rely on', t => {
  const regular = {
    '/': '/', '/a/b?x=/../': '/a/b', '/%41': '/A', '/%7Euser': '/~user', '/a%20b': '/a%20b', '/caf%c3%a9': '/caf%C3%A9',
    '/a.b/..c': '/a.b/..c'
  }
  for (const [path, expected] of Object.entries(regular)) t.equal(regularPath(path), expected, path)
  const irregular = ['', 'a', '*', '//', '/a//b', '/./a', '/a/.', '/a/..', '/../a', '/a\\b', '/a;b', '/a#b', '/%2e%2e/a', '/a%2fb',
    '/a%5Cb', '/a%3bb', '/%252e', '/a%00', '/%zz', '/%', '/a b', '/é']
  for (const path of irregular) t.equal(regularPath(path), undefined, path)
  t.end()
})

t.test('a host has no port, no final dot and no case', t => {
  const hosts = { 'Shop.Test:8080': 'shop.test', 'shop.test.': 'shop.test', '[2001:DB8::1]:80': '[2001:db8::1]', '[::1]': '[::1]', '': '' }
  for (const [authority, host] of Object.entries(hosts)) t.equal(regularHost(authority), host)
  t.end()
})

t.test('path templates', t => {
  const matching: Record<string, [string[], string[]]> = {
    '/a/{*}': [['/a/b'], ['/a/', '/a', '/a/b/c', '/b/b']],
    '/a/{*}/c': [['/a/b/c'], ['/a//c', '/a/b/d', '/a/b/c/d']],
    '/a/{**}': [['/a/', '/a/b', '/a/b/c'], ['/a', '/b']],
    '/{**}': [['/', '/a/b'], []],
    '/a/{**}/c': [['/a/b/c', '/a/b/b/c'], ['/a/c', '/a/b/d', '/b/b/c']]
  }
  for (const [text, [yes, no]] of Object.entries(matching)) {
    const template = PathTemplate.parse(text)
    for (const path of yes) t.equal(template?.matches(path), true, `${text} ${path}`)
    for (const path of no) t.equal(template?.matches(path), false, `${text} not ${path}`)
  }
  for (const bad of ['a/{*}', '/a{*}', '/{**}/{*}', '/{x}', '/{*', '/*', '/a;b/{*}']) t.equal(PathTemplate.parse(bad), undefined, bad)
  t.end()
})

t.test('networks', t => {
  const check = (text: string, address: string) => parseNetwork(text)?.addresses.check(address, address.includes(':') ? 'ipv6' : 'ipv4')
  t.equal(check('10.0.0.0/8', '10.255.0.1'), true)
  t.equal(check('10.0.0.0/8', '11.0.0.1'), false)
  t.equal(check('2001:db8::/32', '2001:db8:1::1'), true)
  t.equal(check('10.0.0.1', '10.0.0.1'), true)
  t.equal(check('0.0.0.0/0', '192.0.2.1'), true)
  const refused = ['10.0.0.1/8', '10.0.0.0/33', '10.0.0', '2001:db8::1/32', '10.0.0.0/08', '10.0.0.0/8/8', 'fe80::1%eth0', '']
  for (const bad of refused) t.equal(parseNetwork(bad), undefined, bad)
  t.end()
})

t.test('time windows', t => {
  const at = (spec: Omit<ConstructorParameters<typeof TimeWindow>[0], 'timeZone'>, time: string, timeZone = 'Europe/Berlin') =>
    new TimeWindow({ ...spec, timeZone }).holdsAt(new Date(time))
  const office = { days: ['mon', 'tue'], from: 8 * 60, to: 18 * 60 } as const
  t.equal(at(office, '2026-06-01T06:00:00Z'), true, 'a Monday, 8:00 in summer')
  t.equal(at(office, '2026-06-01T05:59:59Z'), false)
  t.equal(at(office, '2026-06-01T16:00:00Z'), false, '18:00 is over')
  t.equal(at(office, '2026-01-05T07:00:00Z'), true, 'a Monday, 8:00 in winter')
  t.equal(at(office, '2026-06-03T10:00:00Z'), false, 'a Wednesday')
  const night = { days: ['mon'], from: 22 * 60, to: 6 * 60 } as const
  t.equal(at(night, '2026-06-02T01:00:00Z'), true, 'Tuesday 3:00 belongs to Monday\'s night')
  t.equal(at(night, '2026-06-01T01:00:00Z'), false, 'Monday 3:00 belongs to Sunday\'s')
  const year = { notBefore: new Date('2026-01-01'), notAfter: new Date('2027-01-01') }
  t.same(['2025-12-31T23:59:59Z', '2026-01-01T00:00:00Z', '2027-01-01T00:00:00Z'].map(time => at(year, time)), [false, true, false])
  t.end()
})
