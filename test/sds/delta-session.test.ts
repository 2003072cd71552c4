import { isDeepStrictEqual } from 'node:util'
import fc from 'fast-check'
import t from 'tap'
import { type DeltaAnswer, DeltaSession } from '../../src/sds/delta-session.ts'
import type { SdsDelivery } from '../../src/sds/sds-events.ts'
import type { Found, SecretView } from '../../src/sds/secret-resource.ts'

const at = new Date('2026-01-01T12:00:00Z')
const earlier = new Date('2026-01-01T11:00:00Z')

/** Versions by name: a number is usable, `bad` must not be sent. */
type World = Readonly<Record<string, number | 'bad'>>

function viewOf (world: World, wildcard = Object.keys(world), expiresAt?: Date): SecretView {
  return {
    ownBundleName: 'td',
    defaultSvidName: undefined,
    allNames: new Set(wildcard),
    find (name): Found {
      const version = Object.hasOwn(world, name) ? world[name] : undefined
      if (version === undefined) return { kind: 'absent' }
      if (version === 'bad') return { kind: 'unusable', name, reason: 'test' }
      return { kind: 'usable', resource: { name, version: `v${version}`, value: new Uint8Array(), expiresAt } }
    }
  }
}

function open () {
  let nonces = 0
  const seen: string[] = []
  const describe = (what: string) => ({ name, version }: SdsDelivery) => { seen.push(`${what} ${name} ${version}`) }
  const session = new DeltaSession({
    newNonce: () => `n${++nonces}`,
    events: { acknowledged: describe('ack'), refused: describe('nack'), heldBack: ({ name }) => { seen.push(`held ${name}`) } }
  })
  const ask = (request: Partial<Parameters<DeltaSession['receive']>[0]>) => {
    session.receive({ subscribe: [], unsubscribe: [], initialVersions: new Map(), nonce: '', refusal: undefined, ...request })
  }
  const drain = (now = at) => {
    const answers: DeltaAnswer[] = []
    for (let answer = session.next(now); answer !== undefined; answer = session.next(now)) answers.push(answer)
    return answers
  }
  return { session, ask, drain, seen, said: (now?: Date) => drain(now).map(describeAnswer) }
}

function describeAnswer ({ resource, removed }: DeltaAnswer): string {
  return resource === undefined ? `-${removed.join(',')}` : `${resource.name}=${resource.version}`
}

await t.test('delta: what Envoy asks for', async t => {
  await t.test('each resource comes in an answer of its own; a name that is not allowed is removed at once', async t => {
    const { session, ask, said } = open()
    ask({ subscribe: ['a', 'x', 'b', 'y'] })
    t.same(said(), [], 'nothing before the first state')
    session.update(viewOf({ a: 1, b: 1 }))
    t.same(said(), ['a=v1', '-x', 'b=v1', '-y'])
    t.same(said(), [], 'said once')
  })

  await t.test('a removed name is looked at again when it is asked for again and when the state changes', async t => {
    const { session, ask, said } = open()
    session.update(viewOf({}))
    ask({ subscribe: ['a'] })
    t.same(said(), ['-a'])
    ask({ subscribe: ['a'] })
    t.same(said(), ['-a'], 'asked again: answered again')
    session.update(viewOf({}))
    t.same(said(), [], 'still absent: not repeated')
    session.update(viewOf({ a: 1 }))
    t.same(said(), ['a=v1'], 'the identity appeared')
    session.update(viewOf({}))
    t.same(said(), ['-a'], 'and was revoked')
  })

  await t.test('a name asked for again is answered even when nothing changed; a superfluous unsubscription is not', async t => {
    const { session, ask, said } = open()
    session.update(viewOf({ a: 1 }))
    ask({ subscribe: ['a'] })
    t.same(said(), ['a=v1'])
    ask({ subscribe: ['a'] })
    t.same(said(), ['a=v1'])
    ask({ unsubscribe: ['zzz'] })
    t.same(said(), [])
    ask({ unsubscribe: ['a'] })
    session.update(viewOf({ a: 2 }))
    t.same(said(), [], 'no longer subscribed')
  })

  await t.test('a slow reader is never sent what was withdrawn meanwhile', async t => {
    const { session, ask, said } = open()
    session.update(viewOf({ a: 1, b: 1 }))
    ask({ subscribe: ['a', 'b'] })
    t.equal(describeAnswer(session.next(at) as DeltaAnswer), 'a=v1')
    session.update(viewOf({ a: 2 }))
    t.same(said().toSorted(), ['-b', 'a=v2'])
  })
})

await t.test('delta: wildcard subscriptions (xDS, incremental)', async t => {
  await t.test('a first request without names subscribes to everything, later ones do not', async t => {
    const { session, ask, said } = open()
    session.update(viewOf({ a: 1, b: 1, alias: 1 }, ['a', 'b']))
    ask({})
    t.same(said(), ['a=v1', 'b=v1'], 'aliases are not included')
    session.update(viewOf({ b: 2, c: 1 }))
    t.same(said().toSorted(), ['-a', 'b=v2', 'c=v1'])
    ask({ subscribe: ['alias'] })
    session.update(viewOf({ b: 3 }))
    t.same(said().toSorted(), ['-alias', '-c', 'b=v3'], 'a later name does not end it')
  })

  await t.test('* can be joined and left; a name left while * covers it is told again', async t => {
    const { session, ask, said } = open()
    session.update(viewOf({ a: 1, b: 1, hidden: 1 }, ['a', 'b']))
    ask({ subscribe: ['hidden'] })
    t.same(said(), ['hidden=v1'])
    ask({})
    t.same(said(), [], 'an empty later request changes nothing')
    ask({ subscribe: ['*'] })
    t.same(said().toSorted(), ['a=v1', 'b=v1'])
    ask({ unsubscribe: ['hidden'] })
    t.same(said(), ['-hidden'], 'not covered by *')
    ask({ subscribe: ['a'] })
    t.same(said(), ['a=v1'])
    ask({ unsubscribe: ['a'] })
    t.same(said(), ['a=v1'], 'covered by *')
    ask({ unsubscribe: ['*'] })
    session.update(viewOf({ a: 2, b: 2 }))
    t.same(said(), [], 'nothing is subscribed any more')
  })

  await t.test('* left and joined in one request: everything is told again, also what has gone meanwhile', async t => {
    const { session, ask, said } = open()
    session.update(viewOf({ a: 1, b: 1 }))
    ask({})
    t.same(said(), ['a=v1', 'b=v1'])
    ask({ subscribe: ['*'], unsubscribe: ['*'] })
    session.update(viewOf({ b: 1 }))
    t.same(said().toSorted(), ['-a', 'b=v1'])
  })
})

await t.test('delta: reconnecting with initial_resource_versions', async t => {
  const { session, ask, said } = open()
  session.update(viewOf({ a: 1, b: 2 }))
  ask({ subscribe: ['a', 'b', 'c'], initialVersions: new Map([['a', 'v1'], ['b', 'v1'], ['c', 'v1'], ['d', 'v1']]) })
  t.same(said(), ['b=v2', '-c'], 'only what differs, and what is no longer allowed')
  ask({ subscribe: ['a'], initialVersions: new Map([['a', 'v1']]) })
  t.same(said(), ['a=v1'], 'versions are believed in the first request only')

  const wild = open()
  wild.session.update(viewOf({ a: 1, b: 2 }))
  wild.ask({ initialVersions: new Map([['a', 'v1'], ['gone', 'v1']]) })
  t.same(wild.said().toSorted(), ['-gone', 'b=v2'], 'also with the wildcard')
})

await t.test('delta: acknowledgements and refusals', async t => {
  await t.test('acknowledgements are matched by nonce', async t => {
    const { session, ask, drain, seen } = open()
    session.update(viewOf({ a: 1 }))
    ask({ subscribe: ['a', 'x'] })
    const [first, second] = drain()
    ask({ nonce: 'unknown' })
    t.same(seen, [])
    ask({ nonce: first?.nonce ?? '' })
    ask({ nonce: first?.nonce ?? '' })
    ask({ nonce: second?.nonce ?? '' })
    t.same(seen, ['ack a v1', 'ack x undefined'])
  })

  await t.test('after a refusal the last good secret is sent again at once, and the refused version no more', async t => {
    const { session, ask, drain, said, seen } = open()
    const answerAll = (refusal?: string) => { for (const { nonce } of drain()) ask({ nonce, refusal }) }
    session.update(viewOf({ a: 1 }))
    ask({ subscribe: ['a'] })
    answerAll()
    session.update(viewOf({ a: 2 }))
    answerAll('KEY_VALUES_MISMATCH')
    t.same(said(), ['a=v1'])
    session.update(viewOf({ a: 2 }))
    t.same(said(), [], 'version 2 stays refused')
    session.update(viewOf({ a: 3 }))
    t.same(said(), ['a=v3'])
    t.same(seen, ['ack a v1', 'nack a v2'])
  })

  await t.test('a refused first secret is removed; refusing everything ends in silence, not in a loop', async t => {
    const { session, ask, drain } = open()
    session.update(viewOf({ a: 1 }))
    ask({ subscribe: ['a'] })
    const rounds: string[] = []
    for (let answers = drain(); answers.length > 0 && rounds.length < 20; answers = drain()) {
      rounds.push(...answers.map(describeAnswer))
      for (const { nonce } of answers) ask({ nonce, refusal: 'no' })
    }
    t.same(rounds, ['a=v1', '-a'])
    session.update(viewOf({ a: 1 }))
    t.same(drain(), [])
  })

  await t.test('the last good secret is not sent again once it has expired or been withdrawn', async t => {
    for (const [view, title] of [[viewOf({ a: 2 }, [], at), 'expired'], [viewOf({}), 'withdrawn']] as const) {
      const { session, ask, drain, said } = open()
      session.update(viewOf({ a: 1 }, [], at))
      ask({ subscribe: ['a'] })
      for (const { nonce } of drain(earlier)) ask({ nonce })
      session.update(viewOf({ a: 2 }, [], at))
      const [second] = drain(earlier)
      session.update(view)
      ask({ nonce: second?.nonce ?? '', refusal: 'no' })
      t.same(said(), ['-a'], title)
    }
  })

  await t.test('what Envoy brought from an earlier stream is its last good secret', async t => {
    const { session, ask, drain, said } = open()
    session.update(viewOf({ a: 1 }))
    ask({ subscribe: ['a'], initialVersions: new Map([['a', 'v1']]) })
    t.same(said(), [])
    session.update(viewOf({ a: 2 }))
    const [second] = drain()
    ask({ nonce: second?.nonce ?? '', refusal: 'no' })
    t.same(said(), ['a=v1'])
  })

  await t.test('nothing is kept of a name that is no longer subscribed', async t => {
    const { session, ask, drain, said } = open()
    session.update(viewOf({ a: 1 }))
    ask({ subscribe: ['a'] })
    const [first] = drain()
    ask({ unsubscribe: ['a'], nonce: first?.nonce ?? '' })
    session.update(viewOf({ a: 'bad' }, []))
    ask({ subscribe: ['a'] })
    t.same(said(), ['-a'])
  })

  await t.test('a late refusal of what was replaced meanwhile is only reported', async t => {
    const { session, ask, drain, said, seen } = open()
    session.update(viewOf({ a: 1 }))
    ask({ subscribe: ['a'] })
    const [first] = drain()
    session.update(viewOf({ a: 2 }))
    t.same(said(), ['a=v2'])
    ask({ nonce: first?.nonce ?? '', refusal: 'no' })
    t.same(said(), [])
    t.same(seen, ['nack a v1'])
  })
})

await t.test('delta: a secret that Envoy could not use is never sent', async t => {
  const { session, ask, said, seen } = open()
  session.update(viewOf({ a: 'bad', b: 1 }, []))
  ask({ subscribe: ['a', 'b'] })
  t.same(said(), ['-a', 'b=v1'], 'removed when there is no good one: silence would hang connections')
  session.update(viewOf({ a: 1, b: 'bad' }, []))
  t.same(said(), ['a=v1'], 'the good one is kept')
  t.same(seen, ['held a', 'held b'])
})

await t.test('delta: limits', async t => {
  const many = Array.from({ length: 1001 }, (_, i) => `n${i}`)
  t.throws(() => open().ask({ subscribe: many }), { code: 'argument_invalid' })
  t.throws(() => open().ask({ unsubscribe: many }), { code: 'argument_invalid' })
  t.throws(() => open().ask({ subscribe: ['a'.repeat(2049)] }), { code: 'argument_invalid' })
  t.throws(() => open().ask({ initialVersions: new Map(many.map(name => [name, 'v'])) }), { code: 'argument_invalid' })
  const { ask } = open()
  ask({ subscribe: many.slice(0, 600) })
  t.throws(() => ask({ subscribe: many.slice(401) }), { code: 'argument_invalid' }, 'counted over the whole stream')
})

/** An Envoy: applies answers in order, answers each, may refuse some, may lose its connection. */
class ModelEnvoy {
  readonly held = new Map<string, string>()
  readonly wanted = new Set<string>()
  wildcard = false
  readonly mistakes: string[] = []
  #stream = open()
  #inFlight: DeltaAnswer[] = []
  #fresh = true

  get ready (): boolean { return this.#inFlight.length === 0 }

  update (world: World): void { this.#stream.session.update(viewOf(world)) }

  change (subscribe: readonly string[], unsubscribe: readonly string[]): void {
    for (const name of unsubscribe) {
      if (name === '*') this.wildcard = false
      else this.wanted.delete(name)
    }
    for (const name of subscribe) {
      if (name === '*') this.wildcard = true
      else this.wanted.add(name)
    }
    if (this.#fresh && subscribe.length === 0) this.wildcard = true
    this.#fresh = false
    this.#stream.ask({ subscribe, unsubscribe })
    if (!this.wildcard) for (const name of this.held.keys()) if (!this.wanted.has(name)) this.held.delete(name)
  }

  read (): void {
    const answer = this.#stream.session.next(at)
    if (answer !== undefined) this.#inFlight.push(answer)
  }

  settle (refuse: boolean): void {
    const answer = this.#inFlight.shift()
    if (answer === undefined) return
    const { nonce, resource, removed } = answer
    if (resource !== undefined && removed.length > 0) this.mistakes.push('a resource and removals in one answer')
    if (refuse && resource !== undefined) return this.#stream.ask({ nonce, refusal: 'refused' })
    if (resource !== undefined && (this.wildcard || this.wanted.has(resource.name))) this.held.set(resource.name, resource.version)
    for (const name of removed) this.held.delete(name)
    this.#stream.ask({ nonce })
  }

  reconnect (world: World): void {
    this.#inFlight = []
    this.#stream = open()
    this.update(world)
    const subscribe = [...this.wanted, ...this.wildcard ? ['*'] : []]
    this.#fresh = subscribe.length === 0
    if (!this.#fresh) this.#stream.ask({ subscribe, initialVersions: new Map(this.held) })
    else this.held.clear()
  }

  finish (): void {
    for (let rounds = 0; rounds < 1000; rounds++) {
      this.read()
      if (this.ready) return
      this.settle(false)
    }
    this.mistakes.push('never comes to rest')
  }
}

await t.test('delta: whatever happens, Envoy ends with exactly what it may have, at the newest version', async () => {
  const name = fc.constantFrom('a', 'b', 'c', 'd')
  const names = fc.uniqueArray(fc.oneof({ weight: 5, arbitrary: name }, { weight: 1, arbitrary: fc.constant('*') }), { maxLength: 3 })
  const step = fc.oneof(
    fc.record({ kind: fc.constant('change' as const), subscribe: names, unsubscribe: names }),
    fc.record({ kind: fc.constant('world' as const), names: fc.uniqueArray(name) }),
    fc.constant({ kind: 'read' as const }),
    fc.record({ kind: fc.constant('settle' as const), refuse: fc.boolean() }),
    fc.constant({ kind: 'reconnect' as const })
  )
  fc.assert(fc.property(fc.array(step, { maxLength: 60 }), steps => {
    let version = 0
    let world: World = {}
    const envoy = new ModelEnvoy()
    envoy.update(world)
    const renew = (present: readonly string[]) => { world = Object.fromEntries(present.map(one => [one, ++version])); envoy.update(world) }
    for (const one of steps) {
      if (one.kind === 'change') envoy.change(one.subscribe, one.unsubscribe)
      else if (one.kind === 'world') renew(one.names)
      else if (one.kind === 'read') envoy.read()
      else if (one.kind === 'settle') envoy.settle(one.refuse)
      else envoy.reconnect(world)
    }
    envoy.finish()
    // What was refused on the way is replaced by a version of its own, which this Envoy takes.
    renew(Object.keys(world))
    envoy.finish()
    const expected = Object.entries(world)
      .filter(([one]) => envoy.wildcard || envoy.wanted.has(one))
      .map(([one, newest]) => [one, `v${newest}`] as const)
    return envoy.mistakes.length === 0 && isDeepStrictEqual(envoy.held, new Map(expected))
  }), { numRuns: 3000 })
})
