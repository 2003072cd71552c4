import t from 'tap'
import { AddressAllowance } from '../../src/rpc/address-allowance.ts'
import { peerNetwork } from '../../src/rpc/peer-network.ts'
import { PublishedKeys } from '../../src/oidc/published-keys.ts'
import { readJwks } from '../../src/oidc/read-jwks.ts'
import { formatJwtBundle } from '../../src/spiffe/bundle-document.ts'
import { createTestAuthority } from '../fakes/authority.ts'
import { ManualClock } from '../fakes/clock.ts'
import { makeKey } from './fake-source.ts'

const hour = 3_600_000

function open () {
  const clock = new ManualClock('2026-01-01T00:00:00Z')
  const keys = new PublishedKeys({ clock, setKeyUse: false, staleMaxMs: hour, cacheMaxSeconds: 300, pollMs: 10_000 })
  const kids = () => {
    const answer = keys.read()
    return answer.kind === 'keys'
      ? (JSON.parse(String(answer.document.body)) as { keys: Array<{ kid: string }> }).keys.map(({ kid }) => kid)
      : answer.kind
  }
  const maxAge = () => {
    const answer = keys.read()
    return answer.kind === 'keys' ? answer.maxAgeSeconds : answer.kind
  }
  return { clock, keys, kids, maxAge, in: (ms: number) => new Date(clock.now().getTime() + ms) }
}

void t.test('the last good keys are served for a bounded time', async t => {
  const { clock, keys, kids, maxAge } = open()
  keys.sourceFailed('away')
  t.equal(kids(), 'waiting')
  t.same(keys.take([makeKey('a'), makeKey('b')]), { added: ['a', 'b'], removed: [], skipped: [] })
  t.same([kids(), maxAge()], [['a', 'b'], 300])
  await clock.advance(hour / 2)
  keys.sourceFailed('away')
  t.same([kids(), maxAge()], [['a', 'b'], 10], 'who asks while the source is away may come back soon')
  await clock.advance(hour / 2 - 3_000)
  t.same([kids(), maxAge()], [['a', 'b'], 3], 'no copy outlives that time')
  await clock.advance(3_001)
  t.equal(kids(), 'stale')
  t.same(keys.take([makeKey('b')]), { added: [], removed: ['a'], skipped: [] })
  t.same([kids(), maxAge()], [['b'], 300], 'and all is well once it is back')
  keys.take([])
  t.equal(kids(), 'none')
})

void t.test('how long others may keep them follows from how long keys are valid', async t => {
  const { clock, keys, kids, maxAge, in: after } = open()
  keys.take([makeKey('a', { expiresAt: after(hour / 4) }), makeKey('b', { expiresAt: after(hour / 2) })])
  t.equal(maxAge(), 180, 'a tenth of what is left for the newest key')
  keys.take([makeKey('a', { expiresAt: after(-590_000) }), makeKey('b', { expiresAt: after(24 * hour) })])
  t.equal(maxAge(), 10, 'never longer than a key is served: ten minutes beyond its end, as by servers')
  await clock.advance(10_001)
  t.same([kids(), maxAge()], [['b'], 300], 'a key that ended leaves by itself')
  keys.take([makeKey('c', { expiresAt: after(-1_000) })])
  t.same([kids(), maxAge()], [['c'], 0], 'past its end: it may not be kept at all')
})

void t.test('what cannot be published is left out', async t => {
  const { keys, kids } = open()
  const a = makeKey('a')
  const junk = { keyId: 'junk', publicKey: new Uint8Array([1, 2, 3]), tainted: false }
  t.same(keys.take([a, junk, makeKey('a'), { ...makeKey('x'), keyId: '' }]), { added: ['a'], removed: [], skipped: ['junk', 'a', ''] })
  t.same(kids(), ['a'])
  t.throws(() => keys.take(Array.from({ length: 1_001 }, (_, index) => ({ ...a, keyId: `k${index}` }))), { code: 'bundle_malformed' })
  t.same(kids(), ['a'], 'what is no bundle in earnest changes nothing')
})

void t.test('JWK Sets as the Workload API hands them out (WLAPI-26)', async t => {
  const { bundle } = await createTestAuthority('example.org', { jwtKeyType: 'rsa-2048' })
  t.same(readJwks(formatJwtBundle(bundle)), bundle.jwtAuthorities.map(({ keyId, publicKey }) => ({ keyId, publicKey, tainted: false })))
  const [jwk] = (JSON.parse(formatJwtBundle(bundle)) as { keys: object[] }).keys
  const kids = (...keys: object[]) => readJwks(JSON.stringify({ keys })).map(({ keyId }) => keyId)
  const uses = [{ ...jwk, use: 'sig' }, { ...jwk, use: 'jwt-svid', kid: 'b' }, { ...jwk, use: 'x509-svid', kid: 'c' }]
  t.same(kids(...uses), ['example.org-jwt', 'b'])
  const unusable = [{ ...jwk, kid: '' }, { ...jwk, kid: 1 }, { kty: 'OKP', kid: 'd' }, { ...jwk, kid: 'e', d: 'secret' }]
  t.same(kids(...unusable), [], 'no private key either')
  for (const text of ['', '[]', '{}', '{"keys":{}}', '{"keys":[1]}', '{"keys":[],"keys":[]}']) {
    t.throws(() => readJwks(text), { code: 'bundle_malformed' }, text)
  }
})

void t.test('each address may ask so often', async t => {
  const allowance = new AddressAllowance({ perSecond: 2, burst: 4 })
  const take = (who: string, nowMs: number, times: number) => Array.from({ length: times }, () => allowance.take(who, nowMs))
  t.same(take('a', 0, 6), [0, 0, 0, 0, 1, 1], 'a burst')
  t.same(take('b', 0, 1), [0], 'nobody pays for others')
  t.same(take('a', 1_000, 3), [0, 0, 1], 'then on average')
  t.same(take('a', 1_000_000, 5), [0, 0, 0, 0, 1], 'a long pause gives no more than a burst')
  for (let index = 0; index < 40_000; index++) allowance.take(`x${index}`, 0)
  t.same(take('a', 1_000_000, 1), [0], 'memory is bounded: who was long ago is forgotten')
  const same: ReadonlyArray<readonly [string, string]> = [
    ['2001:db8:1:2::1', '2001:db8:1:2:ffff::'], ['2001:db8::1', '2001:0db8:0:0:1::'], ['::ffff:10.0.0.1', '10.0.0.1'],
    ['fe80::1%eth0', 'fe80::2']
  ]
  for (const [one, other] of same) t.equal(peerNetwork(one), peerNetwork(other), `${one} and ${other}`)
  t.not(peerNetwork('2001:db8:1:2::1'), peerNetwork('2001:db8:1:3::1'))
  t.not(peerNetwork('10.0.0.1'), peerNetwork('10.0.0.2'))
})
