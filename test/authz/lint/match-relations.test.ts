import t from 'tap'
import { covers, disjoint } from '../../../src/authz/lint/match-relations.ts'
import { matches, type Match } from '../../../src/authz/policy/match.ts'
import { parseIdMatch, parsePathMatch, parseTextMatch } from '../../../src/authz/policy/match-text.ts'
import { parseNetwork } from '../../../src/authz/policy/network.ts'
import { tlsVersions } from '../../../src/authz/policy/policy-schema.ts'
import { TimeWindow } from '../../../src/authz/policy/time-window.ts'
import { parseTrustDomain } from '../../../src/spiffe/trust-domain.ts'
import { chooseSeed, Random } from '../../fakes/random.ts'

const text = (...texts: string[]) => texts.map(parseTextMatch)
const domain = parseTrustDomain
const workload = (domains: string[], namespace?: string, serviceAccount?: string): Match => ({
  kind: 'workload',
  workload: {
    domains: domains.map(domain), namespace: namespace === undefined ? undefined : parseTextMatch(namespace),
    serviceAccount: serviceAccount === undefined ? undefined : parseTextMatch(serviceAccount)
  }
})
const window = (spec: { notBefore?: string, notAfter?: string, days?: 'mon'[], from?: number, to?: number }): Match => ({
  kind: 'window',
  window: new TimeWindow({
    days: spec.days, from: spec.from, to: spec.to, timeZone: 'UTC',
    notBefore: spec.notBefore === undefined ? undefined : new Date(spec.notBefore),
    notAfter: spec.notAfter === undefined ? undefined : new Date(spec.notAfter)
  })
})

/** Matches that may be about the same fact, and values of it. */
const families: Readonly<Record<string, { matches: readonly Match[], values: readonly string[] }>> = {
  paths: {
    matches: ['/a', '/a/b', '/a*', '/a/*', '*.js', '*', '*b', '/a/{*}', '/a/{**}', '/a/{*}/c', '/a/b/{*}', '/{*}/b',
      '/x/{**}'].map(parsePathMatch),
    values: ['/', '/a', '/a/', '/a/b', '/a/b/', '/a/b/c', '/a/x.js', '/ab', '/x/b', '/x/', '/x', '/a/x/c', '/a/b/c/d']
  },
  ids: {
    matches: [
      ...['spiffe://a.test/*', 'spiffe://a.test/ns/x/*', 'spiffe://a.test/ns/x/sa/y', 'spiffe://b.test/*',
        'spiffe://a.test/web'].map(parseIdMatch),
      workload(['a.test']), workload(['a.test', 'b.test'], 'x'), workload(['a.test'], 'x', 'y'), workload(['b.test'], '*', 'y*'),
      workload([], 'x'),
      { kind: 'present' }, { kind: 'present', domains: [domain('a.test')] },
      { kind: 'suffix', value: '/y', domains: [domain('a.test'), domain('b.test')] },
      { kind: 'suffix', value: 'sa/y', domains: [domain('a.test')] },
      { kind: 'suffix', value: 'web' }
    ],
    values: ['spiffe://a.test/web', 'spiffe://b.test/web', 'spiffe://a.test/ns/x/sa/y', 'spiffe://b.test/ns/x/sa/y',
      'spiffe://a.test/ns/x/sa/yy',
      'spiffe://a.test/ns/z/sa/y', 'spiffe://b.test/ns/z/sa/yo', 'spiffe://c.test/ns/x/sa/y', 'spiffe://a.test/ns/x/sa/y/z']
  },
  texts: {
    matches: text('a', 'ab', 'a*', 'ab*', '*b', '*ab', '*', 'b*', '*c'),
    values: ['', 'a', 'b', 'ab', 'abc', 'aab', 'ba', 'c', 'bc']
  },
  networks: {
    matches: ['10.0.0.0/8', '10.1.0.0/16', '10.1.2.3', '192.168.0.0/16', '0.0.0.0/0', '::/0', '::ffff:0:0/96', '::ffff:10.0.0.0/104',
      'fd00::/8',
      'fd00:1::/32'].map(value => ({ kind: 'network', network: parseNetwork(value) as NonNullable<ReturnType<typeof parseNetwork>> })),
    values: ['10.0.0.1', '10.1.0.1', '10.1.2.3', '192.168.1.1', '8.8.8.8', '::ffff:10.1.2.3', '::1', 'fd00::1', 'fd00:1::1', 'x']
  },
  versions: {
    matches: [...tlsVersions.map((value): Match => ({ kind: 'atLeast', order: tlsVersions, value })), ...text('TLSv1.2', '*')],
    values: [...tlsVersions, 'SSLv3']
  },
  times: {
    matches: [
      window({ notBefore: '2026-01-01T00:00:00Z' }), window({ notAfter: '2026-01-01T00:00:00Z' }), window({ days: ['mon'] }),
      window({ notBefore: '2026-02-01T00:00:00Z', notAfter: '2026-03-01T00:00:00Z' }), window({ from: 480, to: 1_020 }),
      window({ from: 1_320, to: 360 }),
      window({ days: ['mon'], from: 480, to: 1_020 }), window({ notBefore: '2026-02-01T00:00:00Z', days: ['mon'] }),
      window({ from: 60, to: 60 })
    ],
    values: ['2025-12-31T23:59:59.999Z', '2026-01-01T00:00:00.000Z', '2026-02-02T09:00:00.000Z', '2026-02-02T23:00:00.000Z',
      '2026-02-28T12:00:00.000Z',
      '2026-03-01T00:00:00.000Z', '2026-03-02T05:00:00.000Z']
  }
}

t.test('what is said of two matches holds for every value', t => {
  const random = new Random(chooseSeed())
  for (const [name, { matches: all, values }] of Object.entries(families)) {
    const wrong: string[] = []
    const said = { covers: 0, disjoint: 0 }
    const longer = Array.from({ length: 200 }, () => random.pick(values) + random.pick(values))
    const told = (one: Match) => JSON.stringify(one.kind === 'template' ? one.template.text : one)
    for (const a of all) {
      for (const b of all) {
        const [isWide, areApart] = [covers(a, b), disjoint(a, b)]
        if (isWide && a !== b) said.covers++
        if (areApart) said.disjoint++
        for (const value of name === 'paths' || name === 'texts' ? [...values, ...longer] : values) {
          if (isWide && matches(b, value) && !matches(a, value)) wrong.push(`${told(a)} does not cover ${told(b)}: ${value}`)
          if (areApart && matches(b, value) && matches(a, value)) wrong.push(`${told(a)} and ${told(b)} are not disjoint: ${value}`)
        }
      }
    }
    t.same(wrong, [], name)
    t.ok(said.covers > 2, `${name}: ${said.covers} cover others`)
    t.ok(name === 'versions' || said.disjoint > 2, `${name}: ${said.disjoint} are disjoint`)
  }
  t.end()
})

t.test('selectors: who has more of them is covered by who has fewer, whoever is registered', t => {
  const [few, many]: [Match, Match] = [{ kind: 'selected', selectors: ['a:1'] },
    { kind: 'selected', selectors: ['a:1', 'b:2'], ids: new Set() }]
  t.ok(covers(few, many))
  t.notOk(covers(many, few))
  t.notOk(disjoint(few, many), 'though nobody has them now')
  t.notOk(disjoint(many, { kind: 'exact', value: 'spiffe://a.test/web' }))
  t.end()
})
