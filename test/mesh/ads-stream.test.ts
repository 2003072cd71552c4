import t from 'tap'
import { SotwAdsSession } from '../../src/mesh/ads/sotw-ads-session.ts'
import { ProxyState } from '../../src/mesh/ads/proxy-state.ts'
import type { ResourceView } from '../../src/sds/secret-resource.ts'
import { DeltaSession } from '../../src/sds/delta-session.ts'

const at = new Date('2026-01-01')
const ignored = { acknowledged () {}, refused () {}, heldBack () {} }

/** Names and versions. */
function view (resources: Readonly<Record<string, string>>, pending: readonly string[] = []): ResourceView {
  return {
    allNames: new Set(Object.keys(resources)),
    find (name) {
      if (pending.includes(name)) return { kind: 'pending' }
      const version = resources[name]
      if (version === undefined) return { kind: 'absent' }
      return { kind: 'usable', resource: { name, version, value: new Uint8Array(), expiresAt: undefined } }
    }
  }
}

void t.test('state of the world: all of a type, or the names that were asked for', async t => {
  let nonces = 0
  const session = new SotwAdsSession({ newNonce: () => String(++nonces), events: ignored })
  const names = () => session.next(at)?.resources.map(({ name }) => name)
  session.update(view({ a: '1', b: '1' }))
  t.equal(session.next(at), undefined, 'nothing before a request')
  session.receive({ names: [], nonce: '', refusal: undefined })
  t.strictSame(names(), ['a', 'b'])
  session.receive({ names: [], nonce: '1', refusal: undefined })
  t.equal(session.next(at), undefined, 'an acknowledgement is not answered')
  session.update(view({ a: '1', b: '2' }))
  t.strictSame(names(), ['a', 'b'], 'a change is')
  t.notOk(session.settled)
  session.receive({ names: [], nonce: '1', refusal: 'an old answer' })
  t.notOk(session.settled, 'what is said about an older answer says nothing')
  session.receive({ names: [], nonce: '2', refusal: 'no' })
  t.ok(session.settled)
  t.equal(session.next(at), undefined, 'what was refused is not sent again')
  session.update(view({ a: '3', b: '2' }))
  t.strictSame(names(), ['a', 'b'], 'until it is another')
  session.receive({ names: ['b', 'c'], nonce: '3', refusal: undefined })
  t.strictSame(names(), ['b'], 'names are asked for')
  session.receive({ names: ['c'], nonce: '4', refusal: undefined })
  t.equal(session.next(at), undefined, 'Envoy waits for what is not there')
  session.update(view({ c: '1' }))
  t.strictSame(names(), ['c'])
})

void t.test('what a name means may have to be found out first', async t => {
  const session = new DeltaSession({ newNonce: () => '1', events: ignored })
  session.receive({ subscribe: ['conn'], unsubscribe: [], initialVersions: new Map(), nonce: '', refusal: undefined })
  session.update(view({}, ['conn']))
  t.equal(session.next(at), undefined, 'it is neither sent nor removed')
  session.update(view({ conn: '1' }))
  t.match(session.next(at), { resource: { name: 'conn' }, removed: [] })
  session.update(view({}))
  t.match(session.next(at), { resource: undefined, removed: ['conn'] })
})

void t.test('what a proxy has taken over', async t => {
  const proxy = new ProxyState()
  const [first, second] = [new Map([['T', view({ a: '1' })]]), new Map([['T', view({ a: '2' })]])]
  t.ok(proxy.hasSettled(first), 'without a proxy nobody has to be waited for')
  const [one, two] = [proxy.open(), proxy.open()]
  t.notOk(proxy.hasSettled(first))
  one.settled(first)
  t.notOk(proxy.hasSettled(first), 'each of them')
  two.settled(first)
  t.ok(proxy.hasSettled(first))
  t.notOk(proxy.hasSettled(second), 'and the newest state')
  two[Symbol.dispose]()
  one.settled(second)
  t.ok(proxy.hasSettled(second), 'who has gone is not waited for')
  proxy.note({ typeUrl: 'T', name: 'a', version: '1', refusal: undefined })
  t.notOk(proxy.holds(second, 'T', ['a'], at), 'an older version')
  proxy.note({ typeUrl: 'T', name: 'a', version: '2', refusal: 'no' })
  t.match(proxy.refused, [{ name: 'a', reason: 'no' }])
  proxy.note({ typeUrl: 'T', name: 'a', version: '2', refusal: undefined })
  t.ok(proxy.holds(second, 'T', ['a'], at))
  t.strictSame(proxy.refused, [])
  one[Symbol.dispose]()
  t.notOk(proxy.holds(second, 'T', ['a'], at), 'the next proxy begins anew')
})
