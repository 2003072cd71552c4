import t from 'tap'
import { EntryIndex } from '../../src/agent/entry-index.ts'
import { identitySource } from '../../src/agent/identity-source.ts'
import { JwtCache, type JwtSigner } from '../../src/agent/jwt-cache.ts'
import { NodeIdentities } from '../../src/agent/node-identities.ts'
import { SvidCache } from '../../src/agent/svid-cache.ts'
import { silentLogger } from '../../src/runtime/logger.ts'
import { SpiffeError, type ErrorCode } from '../../src/spiffe/errors.ts'
import { parseSelector } from '../../src/spiffe/selector.ts'
import { createTestAuthority } from '../fakes/authority.ts'
import { ManualClock } from '../fakes/clock.ts'
import { idOf, makeEntry } from '../fakes/entries.ts'

const never = new AbortController().signal

/** Signs tokens of five minutes, numbered; fails with a code when told to. */
function fakeSigner (clock: ManualClock) {
  const state = { signed: 0, failure: undefined as ErrorCode | undefined, failFor: undefined as string | undefined }
  const signer: JwtSigner = {
    async signJwtSvid (entryId) {
      if (state.failure !== undefined && (state.failFor ?? entryId) === entryId) throw new SpiffeError(state.failure, 'refused')
      const issuedAt = clock.now()
      return { token: `${entryId}-${++state.signed}`, issuedAt, expiresAt: new Date(issuedAt.getTime() + 300_000) }
    }
  }
  return { state, signer }
}

t.test('a token is reused until half of its life, whatever the order of audiences', async t => {
  const clock = new ManualClock()
  const { signer } = fakeSigner(clock)
  const cache = new JwtCache(10, clock)
  const entry = makeEntry({ id: 'a' })
  const fetch = async (...audience: string[]) => (await cache.fetch(entry, audience, signer, never)).token
  t.equal(await fetch('x', 'y'), 'a-1')
  t.equal(await fetch('y', 'x', 'y'), 'a-1')
  t.equal(await fetch('x'), 'a-2', 'another set of audiences is another token')
  await clock.advance(149_000)
  t.equal(await fetch('x', 'y'), 'a-1')
  await clock.advance(2_000)
  t.equal(await fetch('x', 'y'), 'a-3')
})

t.test('tokens that were fetched together are not renewed together (spire-surface §2.3)', async t => {
  const clock = new ManualClock()
  const { signer } = fakeSigner(clock)
  let draw = 1
  const cache = new JwtCache(10, clock, undefined, () => draw)
  const fetch = async (audience: string) => (await cache.fetch(makeEntry({ id: 'a' }), [audience], signer, never)).token
  await fetch('x')
  draw = 0
  await fetch('y')
  await clock.advance(134_000)
  t.equal(await fetch('x'), 'a-1')
  await clock.advance(2_000)
  t.equal(await fetch('x'), 'a-3', 'up to a twentieth of its life before half of it')
  t.equal(await fetch('y'), 'a-2', 'the other one later')
})

t.test('while the server cannot sign, a valid token is served, and not longer', async t => {
  const clock = new ManualClock()
  const { signer, state } = fakeSigner(clock)
  const cache = new JwtCache(10, clock)
  const entry = makeEntry({ id: 'a' })
  await cache.fetch(entry, ['x'], signer, never)
  state.failure = 'server_unreachable'
  await clock.advance(200_000)
  t.equal((await cache.fetch(entry, ['x'], signer, never)).token, 'a-1', 'past half of its life, but valid')
  await clock.advance(101_000)
  await t.rejects(cache.fetch(entry, ['x'], signer, never), { code: 'server_unreachable' })
})

t.test('a token is not served once the server says that the entry is gone', async t => {
  const clock = new ManualClock()
  const { signer, state } = fakeSigner(clock)
  const cache = new JwtCache(10, clock)
  const entry = makeEntry({ id: 'a' })
  await cache.fetch(entry, ['x'], signer, never)
  state.failure = 'entry_not_authorized'
  await clock.advance(200_000)
  await t.rejects(cache.fetch(entry, ['x'], signer, never), { code: 'entry_not_authorized' })
})

t.test('callers that want the same token at once share one signature; one that gives up takes it from nobody', async t => {
  const clock = new ManualClock()
  const { signer, state } = fakeSigner(clock)
  const cache = new JwtCache(10, clock)
  const entry = makeEntry({ id: 'a' })
  const impatient = new AbortController()
  const first = cache.fetch(entry, ['x'], signer, impatient.signal)
  const others = Array.from({ length: 20 }, () => cache.fetch(entry, ['x'], signer, never))
  impatient.abort(new Error('gone'))
  await t.rejects(first, { message: 'gone' })
  t.same(new Set((await Promise.all(others)).map(svid => svid.token)), new Set(['a-1']))
  t.equal(state.signed, 1)
})

t.test('what is said against tokens holds for one that is on its way, and for one that is to stand in for it', async t => {
  const authority = await createTestAuthority('example.org')
  const tainted = new Set(authority.bundle.jwtAuthorities.map(({ keyId }) => keyId))
  const clock = new ManualClock()
  const entry = makeEntry({ id: 'a' })
  const ends: Array<(failure?: Error) => void> = []
  const signer: JwtSigner = {
    async signJwtSvid () {
      const issuedAt = clock.now()
      await new Promise<void>((resolve, reject) => ends.push(failure => failure === undefined ? resolve() : reject(failure)))
      return { token: await authority.issueJwt('/a', ['x']), issuedAt, expiresAt: new Date(issuedAt.getTime() + 300_000) }
    }
  }
  for (const [what, say] of [
    ['a key is tainted', (cache: JwtCache) => cache.setTainted(tainted)], ['all are forgotten', (cache: JwtCache) => cache.forget()]
  ] as const) {
    const cache = new JwtCache(10, clock)
    const onItsWay = cache.fetch(entry, ['x'], signer, never)
    say(cache)
    ends.splice(0).forEach(end => end())
    await onItsWay
    t.equal(cache.size, 0, `${what}: it is not kept`)

    cache.setTainted(new Set())
    const first = cache.fetch(entry, ['x'], signer, never)
    ends.splice(0).forEach(end => end())
    await first
    t.equal(cache.size, 1)
    await clock.advance(200_000)
    const renewed = cache.fetch(entry, ['x'], signer, never)
    say(cache)
    ends.splice(0).forEach(end => end(new SpiffeError('server_unreachable', 'away')))
    await t.rejects(renewed, { code: 'server_unreachable' }, `${what}: nor is the one of before given out again`)
    t.equal(cache.size, 0)
  }
})

t.test('the cache is bounded; the least recently used goes first', async t => {
  const clock = new ManualClock()
  const { signer } = fakeSigner(clock)
  const cache = new JwtCache(2, clock)
  const entry = makeEntry({ id: 'a' })
  for (const audience of ['x', 'y', 'x', 'z']) await cache.fetch(entry, [audience], signer, never)
  t.equal(cache.size, 2)
  t.equal((await cache.fetch(entry, ['x'], signer, never)).token, 'a-1', 'x was used after y')
  t.equal((await cache.fetch(entry, ['y'], signer, never)).token, 'a-4', 'y was dropped')
})

t.test('an entry that asks for a jti gets a token of its own each time', async t => {
  const clock = new ManualClock()
  const { signer } = fakeSigner(clock)
  const cache = new JwtCache(10, clock)
  const entry = makeEntry({ id: 'a', additionalAttributes: { disableX509SvidPrefetch: false, jwtSvidIncludeJti: true } })
  t.equal((await cache.fetch(entry, ['x'], signer, never)).token, 'a-1')
  t.equal((await cache.fetch(entry, ['x'], signer, never)).token, 'a-2')
  t.equal(cache.size, 0)
})

t.test('a caller gets tokens for its identities, without those the server has taken away (WLAPI-22 WLAPI-24)', async t => {
  const clock = new ManualClock()
  const { signer, state } = fakeSigner(clock)
  const { bundle } = await createTestAuthority('example.org')
  const svids = new SvidCache({ keyType: 'ec-p256', maxSize: 0, random: () => 0 }, clock, silentLogger)
  const identities = new NodeIdentities(bundle, svids, clock)
  const source = identitySource(identities, new JwtCache(10, clock), signer)
  const fetch = (id?: string) => source.fetchJwtSvids([parseSelector('unix:uid:1')], ['x'], id === undefined ? undefined : idOf(id), never)
  await t.rejects(fetch(), { code: 'server_initializing' }, 'before the first synchronisation nobody knows')
  identities.setEntries(new EntryIndex([
    makeEntry({ id: 'a', spiffeId: '/a', hint: 'first', selectors: ['unix:uid:1'] }),
    makeEntry({ id: 'b', spiffeId: '/b', selectors: ['unix:uid:1'] }),
    makeEntry({ id: 'c', spiffeId: '/c', selectors: ['unix:uid:2'] })
  ]))
  t.same((await fetch()).map(({ id, hint }) => [id, hint]), [[idOf('/a'), 'first'], [idOf('/b'), '']])
  t.same((await fetch('/b')).map(({ id }) => id), [idOf('/b')])
  await t.rejects(fetch('/c'), { code: 'no_identity_issued' }, 'somebody else\'s identity')
  await clock.advance(200_000)
  Object.assign(state, { failure: 'entry_not_authorized', failFor: 'a' })
  t.same((await fetch()).map(({ id }) => id), [idOf('/b')])
  await t.rejects(fetch('/a'), { code: 'no_identity_issued' })
})

t.test('while an older token is good, the server is not waited for long (jwt_svid_cache_hit_timeout)', async t => {
  const clock = new ManualClock()
  const { signer } = fakeSigner(clock)
  const silent: JwtSigner = {
    signJwtSvid: (_entry, _audience, signal) => new Promise((_resolve, reject) => {
      signal.addEventListener('abort', () => reject(new SpiffeError('server_unreachable', 'no answer')), { once: true })
    })
  }
  // Node does not stay up for a timeout of a signal alone.
  const alive = setInterval(() => {}, 1000)
  t.teardown(() => clearInterval(alive))
  const cache = new JwtCache(10, clock, 20)
  const entry = makeEntry({ id: 'a' })
  await cache.fetch(entry, ['x'], signer, never)
  await clock.advance(200_000)
  t.equal((await cache.fetch(entry, ['x'], silent, never)).token, 'a-1', 'after 20 ms and not after 30 s')
  cache.forget()
  t.equal((await cache.fetch(entry, ['x'], signer, never)).token, 'a-2')
})
