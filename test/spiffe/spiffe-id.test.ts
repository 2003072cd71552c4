import fc from 'fast-check'
import t from 'tap'
import { codeOf, SpiffeError } from '../../src/spiffe/errors.ts'
import { agentIdOf, isAgentId, parseAgentId } from '../../src/spiffe/agent.ts'
import { checkMemberId, checkWorkloadId, isReservedId, serverIdOf } from '../../src/spiffe/member-id.ts'
import { parseSpiffeId, pathOf, spiffeIdOf, trustDomainId, trustDomainOf } from '../../src/spiffe/spiffe-id.ts'
import { checkForeign, parseTrustDomain } from '../../src/spiffe/trust-domain.ts'

const domain = parseTrustDomain('example.org')

void t.test('a SPIFFE ID (SPIFFE-ID §2)', async t => {
  const accepted: [string, string][] = [
    ['ID-01 has the form spiffe://<trust domain>/<segments>', 'spiffe://example.org/ns/web/sa/default'],
    ['ID-09 may be the trust domain alone', 'spiffe://example.org'],
    ['ID-06 may have a name like an IPv4 address', 'spiffe://1.2.3.4/a'],
    ['ID-06 has no rules of DNS labels', 'spiffe://a..b/x'],
    ['ID-06 may have a name of one hyphen', 'spiffe://-/x'],
    ['ID-06 may have a name of one underscore', 'spiffe://_/x'],
    ['ID-07 has all of its path alphabet', 'spiffe://td/AZaz09.-_'],
    ['ID-08 may have a segment of three dots', 'spiffe://td/...'],
    ['ID-08 may have a segment that begins with a dot', 'spiffe://td/.a/..b'],
    ['TS-03 may be named like a property of every object', 'spiffe://__proto__/constructor'],
    ['ID-10 may have 2048 bytes', idOfLength(2048)],
    ['ID-11 may have a name of 255 bytes', `spiffe://${'a'.repeat(255)}/x`]
  ]
  for (const [rule, text] of accepted) t.equal(parseSpiffeId(text), text, rule)

  const refused: [string, ...string[]][] = [
    ['ID-01', '', 'spiffe', 'spiffe:', 'spiffe:/td/a', 'http://td/a', 'https://td', ' spiffe://td/a', '\tspiffe://td'],
    ['ID-01', 'SPIFFE://td/a', 'Spiffe://td/a'],
    ['ID-02', 'spiffe://td/a?', 'spiffe://td/a#', 'spiffe://td/a?b=c', 'spiffe://td/a#b', 'spiffe://td?', 'spiffe://td#'],
    ['ID-03', 'spiffe://', 'spiffe:///a', 'spiffe:///'],
    ['ID-04', 'spiffe://u@td', 'spiffe://u:p@td/a', 'spiffe://td:443/a', 'spiffe://@td', 'spiffe://td:', 'spiffe://td:/a'],
    ['ID-04', 'spiffe://[::1]/a', 'spiffe://::1/a'],
    ['ID-05', 'spiffe://TD/a', 'spiffe://Example.org', 'spiffe://a~b', 'spiffe://[a]/x', 'spiffe://a b/x', 'spiffe://exämple.org/x',
      'spiffe://ex%61mple/x', 'spiffe://td\\a', 'spiffe://td\n/a', 'spiffe://td\0'],
    ['ID-07', 'spiffe://td/a%2Fb', 'spiffe://td/%61', 'spiffe://td/a b', 'spiffe://td/ä', 'spiffe://td/a:b', 'spiffe://td/a@b', 'spiffe://td/a~',
      'spiffe://td/a*', 'spiffe://td/a\\b', 'spiffe://td/a\n', 'spiffe://td/a;b', 'spiffe://td/%2e%2e'],
    ['ID-08', 'spiffe://td//a', 'spiffe://td/a//b', 'spiffe://td/./a', 'spiffe://td/a/../b', 'spiffe://td/..', 'spiffe://td/.', 'spiffe://td//'],
    ['ID-09', 'spiffe://td/', 'spiffe://td/a/', 'spiffe://example.org/a/b/'],
    ['ID-10', idOfLength(2049), idOfLength(100_000)],
    ['ID-11', `spiffe://${'a'.repeat(256)}/x`]
  ]
  for (const [requirement, ...texts] of refused) {
    for (const text of texts) {
      const shown = JSON.stringify(text.slice(0, 40))
      t.throws(() => parseSpiffeId(text), { code: 'spiffe_id_malformed', requirement }, `${requirement} ${shown}`)
    }
  }
  const unlike = [
    ['AMB-01 the scheme in uppercase is refused', 'SPIFFE://td/a'], ['AMB-01 a trust domain in uppercase is refused', 'spiffe://TD/a'],
    ['AMB-02 an empty user is refused', 'spiffe://@td/a'], ['AMB-02 an empty port is refused', 'spiffe://td:/a'],
    ['AMB-03 the own ID has no trailing slash', 'spiffe://example.com/'],
    ['AMB-26 more than 2048 bytes are refused when validating too', idOfLength(2049)],
    ['TS-02 what URL would normalise is refused', 'spiffe://td/a/%2e%2e/b']
  ] as const
  for (const [rule, text] of unlike) t.throws(() => parseSpiffeId(text), { code: 'spiffe_id_malformed' }, rule)
})

void t.test('a bare trust domain name (SPIFFE-ID §2.1)', async t => {
  t.equal(parseTrustDomain('10.0.0.1'), '10.0.0.1', 'ID-06 may look like an IPv4 address')
  t.equal(parseTrustDomain('a-z_0.9'), 'a-z_0.9', 'TS-01 the hyphen is a character of its own')
  const refused = {
    'ID-03 must not be empty': '', 'ID-04 must have no user': 'u@td', 'ID-04 must have no port': 'td:443',
    'ID-05 must be lowercase': 'Example.org', 'ID-05 must be ASCII': 'exämple', 'ID-05 must end with its last character': 'td\n',
    'ID-06 must not be IPv6 text': '::1', 'ID-11 must fit 255 bytes': 'a'.repeat(256)
  }
  for (const [rule, name] of Object.entries(refused)) {
    t.throws(() => parseTrustDomain(name), { code: 'trust_domain_malformed' }, rule)
  }
  for (const character of Array.from('/:;?@\\ABCYZ[]^`{|}~!%&\'()*+,<=>" \t\u007f\u00e9\u0430')) {
    const shown = JSON.stringify(character)
    t.throws(() => parseTrustDomain(`a${character}b`), { code: 'trust_domain_malformed' }, `TS-01 no range admits ${shown}`)
  }
})

void t.test('the grammar, against another formulation of it', async t => {
  const nearIds = fc.tuple(
    fc.constantFrom('spiffe://', 'spiffe:/', 'SPIFFE://', 'spiffe:///', ''),
    fc.oneof(fc.stringMatching(/^[a-z0-9._-]{1,20}$/), fc.string({ maxLength: 6, unit: 'binary' })),
    fc.array(fc.oneof(
      { arbitrary: fc.stringMatching(/^[A-Za-z0-9._-]{1,8}$/), weight: 4 },
      fc.constantFrom('.', '..', '...', '', '%2e', 'a?b', 'a#'),
      fc.string({ maxLength: 4 })
    ), { maxLength: 4 })
  ).map(([scheme, name, segments]) => [scheme + name, ...segments].join('/'))
  let accepted = 0
  fc.assert(fc.property(fc.oneof(nearIds, fc.string({ unit: 'binary' })), text => {
    const result = attempt(() => parseSpiffeId(text))
    if (isSpiffeId(text)) accepted++
    if (isSpiffeId(text)) return result === text && spiffeIdOf(trustDomainOf(result), pathOf(result)) === text
    return result instanceof SpiffeError && result.code === 'spiffe_id_malformed' && result.requirement !== undefined
  }), { numRuns: 3000 })
  fc.assert(fc.property(fc.oneof(fc.string({ unit: 'binary', maxLength: 300 }), fc.stringMatching(/^[a-z0-9._-]{0,300}$/)), text => {
    const result = attempt(() => parseTrustDomain(text))
    return text.length >= 1 && text.length <= 255 && consistsOf(nameAlphabet, text)
      ? result === text
      : codeOf(result) === 'trust_domain_malformed'
  }), { numRuns: 2000 })
  t.ok(accepted > 50, `no crash, nothing accepted outside the grammar, round trip of ${accepted}`)
})

void t.test('comparison and parts', async t => {
  t.not(parseSpiffeId('spiffe://td/Web'), parseSpiffeId('spiffe://td/web'), 'ID-12 the path is case-sensitive')
  const id = parseSpiffeId('spiffe://example.org/ns/web')
  t.equal(trustDomainOf(id), 'example.org')
  t.equal(pathOf(id), '/ns/web')
  t.equal(trustDomainId(domain), 'spiffe://example.org', 'ID-09 the trust domain has an ID without a slash')
  t.equal(pathOf(trustDomainId(domain)), '')
  t.equal(trustDomainOf(trustDomainId(domain)), domain)
  t.throws(() => spiffeIdOf(domain, 'evil/a'), { code: 'spiffe_id_malformed' }, 'a path cannot lengthen the trust domain')
  t.throws(() => spiffeIdOf(domain, `/${'a'.repeat(2048)}`), { code: 'spiffe_id_malformed' }, 'ID-10 longer IDs are not produced')
  t.throws(() => checkForeign(domain, parseTrustDomain('example.org')), { code: 'federation_invalid', requirement: 'ID-13' },
    'ID-13 a trust domain does not federate with one of its name')
  t.equal(checkForeign(parseTrustDomain('other.org'), domain), 'other.org')
})

void t.test('members, workloads, servers and agents of a trust domain', async t => {
  const web = parseSpiffeId('spiffe://example.org/web')
  t.equal(checkMemberId(web, domain), web)
  t.equal(checkWorkloadId(web, domain), web)
  t.equal(serverIdOf(domain), 'spiffe://example.org/spire/server')
  t.equal(checkMemberId(serverIdOf(domain), domain), serverIdOf(domain))
  t.equal(isReservedId(parseSpiffeId('spiffe://example.org/spirent')), false)

  const refused: [string, (id: ReturnType<typeof parseSpiffeId>) => unknown, string][] = [
    ['spiffe://other.org/web', id => checkMemberId(id, domain), '"spiffe://other.org/web" is not a member of trust domain "example.org"'],
    ['spiffe://example.org', id => checkMemberId(id, domain), '"spiffe://example.org" is not a member of trust domain "example.org"; path is empty'],
    ['spiffe://example.org', id => checkWorkloadId(id, domain), '"spiffe://example.org" is not a workload in trust domain "example.org"; path is empty'],
    ...['/spire', '/spire/server', '/spire/agent/a', '/spire/x'].map(path => [`spiffe://example.org${path}`, id => checkWorkloadId(id, domain),
      `"spiffe://example.org${path}" is not a workload in trust domain "example.org"; path is in the reserved namespace`
    ] satisfies [string, (id: ReturnType<typeof parseSpiffeId>) => unknown, string])
  ]
  for (const [text, check, message] of refused) t.throws(() => check(parseSpiffeId(text)), { code: 'spiffe_id_not_allowed', message })

  const agent = agentIdOf(domain, 'join_token', 'a-1')
  t.equal(agent, 'spiffe://example.org/spire/agent/join_token/a-1')
  t.equal(parseAgentId(agent, domain), agent)
  t.ok(isAgentId(agent))
  for (const text of ['spiffe://example.org/web', 'spiffe://example.org/spire/agent', 'spiffe://example.org/spire/server',
    'spiffe://other.org/spire/agent/a', 'spiffe://example.org', 'nonsense']) {
    t.throws(() => parseAgentId(text, domain), { code: 'agent_id_malformed' }, text)
  }
  try {
    agentIdOf(domain, 'join_token', 'secret token')
    t.fail('accepted')
  } catch (error) {
    t.equal(codeOf(error), 'agent_id_malformed')
    t.notMatch(JSON.stringify([(error as Error).message, (error as Error).cause]), /secret/, 'a join token stays out of the message')
  }
})

const nameAlphabet = new Set('abcdefghijklmnopqrstuvwxyz0123456789.-_')
const pathAlphabet = new Set([...nameAlphabet, ...Array.from('ABCDEFGHIJKLMNOPQRSTUVWXYZ')])

/** SPIFFE-ID §2 as sets of characters and a split, where the parser has expressions and a scan. */
function isSpiffeId (text: string): boolean {
  const [scheme, empty, name, ...segments] = text.split('/')
  return scheme === 'spiffe:' && empty === '' && Buffer.byteLength(text) <= 2048 &&
    name !== undefined && name.length >= 1 && name.length <= 255 && consistsOf(nameAlphabet, name) &&
    segments.every(segment => !['', '.', '..'].includes(segment) && consistsOf(pathAlphabet, segment))
}

function consistsOf (alphabet: ReadonlySet<string>, text: string): boolean {
  return Array.from(text).every(character => alphabet.has(character))
}

function idOfLength (length: number): string {
  return 'spiffe://td/'.padEnd(length, 'a')
}

/** The result, or the error that was thrown. */
function attempt<T> (action: () => T): T | Error {
  try {
    return action()
  } catch (error) {
    return error as Error
  }
}
