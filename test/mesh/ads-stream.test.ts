import t from 'tap'
import { SotwAdsSession } from '../../src/mesh/ads/sotw-ads-session.ts'
import { adsHandlers, type ResourceStatus } from '../../src/mesh/ads/ads-handlers.ts'
import { ProxyState } from '../../src/mesh/ads/proxy-state.ts'
import type { ResourceView } from '../../src/sds/secret-resource.ts'
import { DeltaSession } from '../../src/sds/delta-session.ts'
import { ManualClock } from '../fakes/clock.ts'
import { fakeCall } from '../fakes/call-context.ts'

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
  t.match(proxy.refused(second, at), [{ name: 'a', reason: 'no' }])
  proxy.note({ typeUrl: 'T', name: 'a', version: '2', refusal: undefined })
  t.ok(proxy.holds(second, 'T', ['a'], at))
  t.strictSame(proxy.refused(second, at), [])
  one[Symbol.dispose]()
  t.notOk(proxy.holds(second, 'T', ['a'], at), 'the next proxy begins anew')
})

void t.test('a proxy that an earlier agent left says what it has', async t => {
  const proxy = new ProxyState()
  const views = new Map([['T', view({ a: '1', b: '2' })]])
  const over = Promise.withResolvers<void>()
  const { deltaAggregatedResources } = adsHandlers({
    admit: async () => {}, clock: new ManualClock(),
    async * states () {
      yield views
      await over.promise
    },
    onStatus: status => proxy.note(status), onStream: () => proxy.open()
  })
  async function * requests () {
    yield {
      node: undefined, typeUrl: 'T', resourceNamesSubscribe: [], resourceNamesUnsubscribe: [], resourceLocatorsSubscribe: [],
      resourceLocatorsUnsubscribe: [], initialResourceVersions: { a: '1', b: '1' }, responseNonce: '', errorDetail: undefined
    }
    await over.promise
  }
  const answers = deltaAggregatedResources(requests(), fakeCall())[Symbol.asyncIterator]()
  t.match((await answers.next()).value, { resources: [{ name: 'b', version: '2' }] }, 'only what has changed is sent')
  t.ok(proxy.holds(views, 'T', ['a'], at), 'what it brought and has not changed, it has')
  t.notOk(proxy.holds(views, 'T', ['b'], at))
  over.resolve()
  await answers.return?.()
})

void t.test('a refusal is told of until the proxy has what it is now, though it took again what it had', async t => {
  const proxy = new ProxyState()
  const { session, status } = refusing(proxy)
  const states = Object.fromEntries(['1', '2', '3'].map(version => [version, new Map([['T', view({ a: version })]])]))
  const told = (version: string, refusal?: string): string | undefined => {
    session.update(states[version]?.get('T') as ReturnType<typeof view>)
    const answer = session.next(at)
    if (answer !== undefined) session.receive({ ...asking, nonce: answer.nonce, refusal })
    return answer?.resource?.version ?? answer?.removed.join()
  }
  const reasons = (version: string) => proxy.refused(states[version], at).map(({ reason }) => reason)
  const stream = proxy.open()
  session.receive({ ...asking, subscribe: ['a'] })
  t.strictSame([told('1', 'not at first'), told('1')], ['1', 'a'], 'what is refused at first is taken away')
  t.strictSame(reasons('1'), ['not at first'])
  t.equal(told('2'), '2')
  t.strictSame(reasons('2'), [], 'until something is taken over')
  t.strictSame([told('3', 'no'), told('3')], ['3', '2'], 'the last good one is sent again')
  t.ok(status.at(-1)?.refusal === undefined && status.at(-1)?.version === '2', 'and taken over')
  t.strictSame(reasons('3'), ['no'], 'which is not what it should have')
  t.strictSame(reasons('2'), [], 'unless that is as it was again')
  t.strictSame(proxy.refused(new Map([['T', view({})]]), at), [], 'or nothing at all')
  proxy.note({ typeUrl: 'T', name: 'a', version: undefined, refusal: undefined, isLetGo: true })
  t.strictSame(reasons('3'), [], 'or the proxy does not ask for it any more')
  stream[Symbol.dispose]()
})

const asking = { subscribe: [], unsubscribe: [], initialVersions: new Map<string, string>(), nonce: '', refusal: undefined }

/** One type's stream, whose events come to the state. */
function refusing (proxy: ProxyState) {
  let nonces = 0
  const status: ResourceStatus[] = []
  const note = (one: ResourceStatus) => {
    status.push(one)
    proxy.note(one)
  }
  const session = new DeltaSession({ newNonce: () => `n${++nonces}`, events: {
    acknowledged: ({ name, version }) => note({ typeUrl: 'T', name, version, refusal: undefined }),
    refused: ({ name, version, message }) => note({ typeUrl: 'T', name, version, refusal: message }),
    heldBack () {}
  } })
  return { session, status }
}
