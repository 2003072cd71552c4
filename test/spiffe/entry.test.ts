import fc from 'fast-check'
import t from 'tap'
import { checkEntry, type RawEntryDraft } from '../../src/spiffe/check-entry.ts'
import { checkDnsName } from '../../src/spiffe/dns-name.ts'
import { checkEntryId } from '../../src/spiffe/entry-id.ts'
import { SpiffeError } from '../../src/spiffe/errors.ts'
import { checkSelector, formatSelector, isSubset, normalizeSelectors, parseSelector } from '../../src/spiffe/selector.ts'
import { parseTrustDomain } from '../../src/spiffe/trust-domain.ts'

const domain = parseTrustDomain('example.org')
const draft: RawEntryDraft = {
  id: '', spiffeId: 'spiffe://example.org/web', parentId: 'spiffe://example.org/spire/agent/join_token/a',
  selectors: [{ type: 'unix', value: 'uid:1000' }], x509SvidTtlSeconds: 0, jwtSvidTtlSeconds: 0, federatesWith: [], dnsNames: [],
  admin: false, downstream: false, storeSvid: false, hint: '', expiresAtSeconds: 0,
  additionalAttributes: { disableX509SvidPrefetch: false, jwtSvidIncludeJti: false }
}

void t.test('a registration entry that is right', async t => {
  t.same(checkEntry(draft, domain), draft)
  t.same(checkEntry({ ...draft, parentId: 'spiffe://example.org/spire/server' }, domain).parentId, 'spiffe://example.org/spire/server', 'a node alias')
  const rich = checkEntry({
    ...draft, id: 'a.b_c-1', federatesWith: ['other.org', 'spiffe://third.org', 'spiffe://other.org'],
    selectors: [{ type: 'unix', value: 'b' }, { type: 'unix', value: 'a' }, { type: 'unix', value: 'b' }],
    dnsNames: ['z.example', '*.a.example'], hint: 'ä'.repeat(512), x509SvidTtlSeconds: 2 ** 31 - 1, expiresAtSeconds: 4_000_000_000
  }, domain)
  t.strictSame(rich.federatesWith, ['other.org', 'third.org'], 'trust domains as bare names, once')
  t.strictSame(rich.selectors, [{ type: 'unix', value: 'a' }, { type: 'unix', value: 'b' }], 'selectors sorted, once')
  t.strictSame(rich.dnsNames, ['z.example', '*.a.example'], 'the order of DNS names is kept')
  const longest = 'spiffe://example.org/'.padEnd(2048, 'a')
  t.equal(checkEntry({ ...draft, spiffeId: longest }, domain).spiffeId, longest, 'ID-10 an ID of 2048 bytes')
})

void t.test('a registration entry that is refused', async t => {
  const cases: [string, Partial<RawEntryDraft>][] = [
    ['invalid parent ID: "spiffe://other.org/a" is not a member of trust domain "example.org"', { parentId: 'spiffe://other.org/a' }],
    ['invalid parent ID: "spiffe://example.org" is not a member of trust domain "example.org"; path is empty', { parentId: 'spiffe://example.org' }],
    ['invalid parent ID: invalid SPIFFE ID "": the scheme is not spiffe://', { parentId: '' }],
    ['invalid spiffe ID: invalid SPIFFE ID "x": the scheme is not spiffe://', { spiffeId: 'x' }],
    ['invalid spiffe ID: "spiffe://example.org" is not a workload in trust domain "example.org"; path is empty', { spiffeId: 'spiffe://example.org' }],
    ['path is in the reserved namespace', { spiffeId: 'spiffe://example.org/spire/agent/x' }],
    ['path is in the reserved namespace', { spiffeId: 'spiffe://example.org/spire' }],
    ['selector list is empty', { selectors: [] }],
    ['missing selector type', { selectors: [{ type: '', value: 'a' }] }],
    ["selector type contains ':'", { selectors: [{ type: 'a:b', value: 'a' }] }],
    ['missing selector value', { selectors: [{ type: 'unix', value: '' }] }],
    ['selector contains U+0000', { selectors: [{ type: 'unix', value: 'a\0' }] }],
    ['invalid DNS name: wildcard must be first label: "a.*.b"', { dnsNames: ['a.*.b'] }],
    ['invalid DNS name: repeated: "a.b"', { dnsNames: ['a.b', 'a.b'] }],
    ['hint is too long, max length is 1024 characters', { hint: 'a'.repeat(1025) }],
    ['hint contains U+0000', { hint: '\0' }],
    ['invalid registration entry: X509SvidTtl is not set', { x509SvidTtlSeconds: -1 }],
    ['invalid registration entry: X509SvidTtl is not set', { x509SvidTtlSeconds: 2 ** 31 }],
    ['invalid registration entry: JwtSvidTtl is not set', { jwtSvidTtlSeconds: -1 }],
    ['invalid registration entry: JwtSvidTtl is not set', { jwtSvidTtlSeconds: 1.5 }],
    ['invalid expiry: -1', { expiresAtSeconds: -1 }],
    ['invalid federated trust domain: trust domain has a character', { federatesWith: ['Other.org'] }],
    ['invalid federated trust domain: "example.org" is this trust domain', { federatesWith: ['example.org'] }],
    ['invalid registration entry: selector types must be the same when store SVID is enabled',
      { storeSvid: true, selectors: [{ type: 'a', value: '1' }, { type: 'b', value: '1' }] }],
    ['store SVID cannot be combined with disable X509-SVID prefetch',
      { storeSvid: true, additionalAttributes: { disableX509SvidPrefetch: true, jwtSvidIncludeJti: false } }],
    ['invalid registration entry: entry ID too long', { id: 'a'.repeat(256) }],
    ['invalid registration entry: entry ID contains invalid characters', { id: 'a/b' }]
  ]
  for (const [message, change] of cases) {
    t.throws(() => checkEntry({ ...draft, ...change }, domain), { code: 'entry_malformed', message }, message)
  }
  t.throws(() => checkEntry({ ...draft, spiffeId: 'spiffe://example.org/'.padEnd(2049, 'a') }, domain), { code: 'entry_malformed', requirement: 'ID-10' },
    'ID-10 an entry with a longer ID is refused')
  t.throws(() => checkEntry({ ...draft, hint: 'ä'.repeat(513) }, domain), { code: 'entry_malformed' },
    'WLAPI-37 hints are measured in bytes')
})

void t.test('entry IDs', async t => {
  for (const id of ['a', '-', 'A.b_C-9', 'a'.repeat(255), '5b7d6c5e-6d2b-4d0a-9a76-0d5a1e0b7d10']) t.equal(checkEntryId(id), id)
  for (const id of ['', ' ', 'a b', 'a/b', 'ä', 'a\n', 'a:b', 'a'.repeat(256)]) {
    t.throws(() => checkEntryId(id), { code: 'entry_malformed' })
  }
})

void t.test('DNS names', async t => {
  const taken = [
    'a', 'localhost', 'a.b', '*.example.org', 'xn--bcher-kva.example', '1.2.3.4', 'a-b.c', 'a_b.c', '_a', `${'a'.repeat(63)}.b`
  ]
  for (const name of taken) t.equal(checkDnsName(name), name, name)
  const refused = ['', ' ', '.', 'a.', '.a', 'a..b', '*', '*.', '*.*.a', 'a.*', 'a*.b', '-a', 'a-', 'a b', 'A.b', 'xn--a',
    'bücher.example', 'xn--', 'xn--abc-.b', 'ab--c.d', 'xn--80ak6aa92e-', `${'a'.repeat(64)}.b`, ('a.'.repeat(127)), 'a\n', 'a\0',
    'a/b', 'a:1', '[::1]']
  for (const name of refused) t.throws(() => checkDnsName(name), { code: 'entry_malformed' }, JSON.stringify(name.slice(0, 30)))
  let accepted = 0
  const nearNames = fc.array(fc.stringMatching(/^[a-z0-9*_-]{0,5}$/)).map(labels => labels.join('.'))
  const names = fc.oneof(fc.domain(), fc.domain().map(name => `*.${name}`), nearNames, fc.string({ unit: 'binary' }))
  fc.assert(fc.property(names, name => {
    let result
    try {
      result = checkDnsName(name)
    } catch (error) {
      return error instanceof SpiffeError && error.code === 'entry_malformed'
    }
    accepted++
    const bare = name.startsWith('*.') ? name.slice(2) : name
    const ldh = /^(?=.{1,253}$)(?:(?!-)[a-z0-9_-]{0,62}[a-z0-9_](?:\.(?!$)|$))+$/
    return result === name && ldh.test(bare)
  }), { numRuns: 2000 })
  t.ok(accepted > 100, `accepted ${accepted}`)
})

void t.test('selectors', async t => {
  t.strictSame(parseSelector('unix:uid:1000'), { type: 'unix', value: 'uid:1000' }, 'the value may hold colons')
  t.strictSame(parseSelector('a::'), { type: 'a', value: ':' })
  for (const text of ['', 'a', ':a', 'a:', ':']) t.throws(() => parseSelector(text), { code: 'selector_malformed' }, JSON.stringify(text))
  t.throws(() => checkSelector({ type: 'a', value: '\ud800' }), { code: 'selector_malformed' }, 'a lone surrogate')

  const selectors = fc.array(fc.record({ type: fc.constantFrom('a', 'b', 'a1'), value: fc.constantFrom('1', '2', ':', '1:') }))
  fc.assert(fc.property(selectors, selectors, (needed, present) => {
    const normal = normalizeSelectors(needed)
    t.strictSame(normalizeSelectors([...normal, ...normal].toReversed()), normal, 'order and repeats make no difference')
    const keys = new Set(present.map(formatSelector))
    const byHand = needed.every(({ type, value }) => present.some(other => other.type === type && other.value === value))
    return isSubset(needed, keys) === byHand && isSubset(normal, keys) === byHand
  }), { numRuns: 200 })
  fc.assert(fc.property(fc.string({ unit: 'binary' }), text => {
    try {
      return formatSelector(parseSelector(text)) === text && /^[^:]+:[^]/.test(text)
    } catch (error) {
      return error instanceof SpiffeError && error.code === 'selector_malformed'
    }
  }))
})
