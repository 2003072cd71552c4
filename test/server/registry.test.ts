import { join } from 'node:path'
import fc from 'fast-check'
import t from 'tap'
import { silentLogger } from '../../src/runtime/logger.ts'
import { Registrations } from '../../src/server/registrations.ts'
import type { AgentView } from '../../src/server/node-aliases.ts'
import { Registry } from '../../src/server/registry.ts'
import type { Touched } from '../../src/server/touches.ts'
import type { Entry } from '../../src/spiffe/entry.ts'
import { SpiffeError } from '../../src/spiffe/errors.ts'
import { parseSelector } from '../../src/spiffe/selector.ts'
import type { SpiffeId } from '../../src/spiffe/spiffe-id.ts'
import { parseTrustDomain } from '../../src/spiffe/trust-domain.ts'
import type { Datastore } from '../../src/storage/datastore.ts'
import { openDatastore } from '../../src/storage/open-datastore.ts'
import { ManualClock } from '../fakes/clock.ts'
import { idOf, makeDraft, makeEntry } from '../fakes/entries.ts'
import { openTestReplica } from '../fakes/replica.ts'

const domain = parseTrustDomain('example.org')
const node = { id: idOf('/spire/agent/join_token/node'), selectors: [{ type: 'x', value: 'a' }, { type: 'x', value: 'b' }] }
const ids = (entries: readonly Entry[]) => entries.map(entry => entry.id)

void t.test('an agent may serve what lies below it (spire-surface §3.2)', async t => {
  const registry = new Registry(domain)
  registry.put([
    makeEntry({ id: 'child', spiffeId: '/child' }),
    makeEntry({ id: 'grandchild', spiffeId: '/grandchild', parentId: '/child' }),
    makeEntry({ id: 'stranger', parentId: '/spire/agent/join_token/other' }),
    makeEntry({ id: 'orphan', spiffeId: '/orphan', parentId: '/nobody' })
  ])
  t.same(ids(registry.authorizedEntries(node)), ['child', 'grandchild'])
  t.ok(registry.isAuthorized(node, registry.get('grandchild') as Entry))
  t.notOk(registry.isAuthorized(node, registry.get('stranger') as Entry))
})

void t.test('what is below a revoked ID is served, what has that ID is not, until that ends', async t => {
  const registry = new Registry(domain)
  registry.apply({ entries: new Map(), agents: new Map([[node.id, node]]) })
  registry.put([
    makeEntry({ id: 'bad', spiffeId: '/bad' }), makeEntry({ id: 'below', spiffeId: '/below', parentId: '/bad' }),
    makeEntry({ id: 'twin', spiffeId: '/bad', selectors: ['unix:uid:2'] }), makeEntry({ id: 'good', spiffeId: '/good' })
  ])
  const apply = (...paths: string[]) =>
    registry.apply({ entries: new Map(), agents: new Map(), revokedIds: new Set(paths.map(path => idOf(path))) })
  t.same(apply('/bad', '/unknown').get(node.id), new Set(['bad', 'twin']), 'whom it touches')
  t.same(ids(registry.authorizedEntries(node)), ['below', 'good'])
  t.notOk(registry.isAuthorized(node, registry.get('bad') as Entry))
  t.ok(registry.isAuthorized(node, registry.get('below') as Entry))
  registry.put([makeEntry({ id: 'late', spiffeId: '/bad' })])
  t.same(ids(registry.authorizedEntries(node)), ['below', 'good'], 'nor what is registered meanwhile')
  t.equal(apply('/bad').size, 0, 'nothing new')
  t.same(apply().get(node.id), new Set(['bad', 'late', 'twin']))
  t.same(ids(registry.authorizedEntries(node)), ['bad', 'below', 'good', 'late', 'twin'])
})

void t.test('a node alias gives the agents it matches a further root, and is not served itself', async t => {
  const registry = new Registry(domain)
  registry.put([
    makeEntry({ id: 'alias', spiffeId: '/cluster', parentId: '/spire/server', selectors: ['x:a', 'x:b'] }),
    makeEntry({ id: 'too-much', spiffeId: '/elsewhere', parentId: '/spire/server', selectors: ['x:a', 'x:c'] }),
    makeEntry({ id: 'shared', spiffeId: '/shared', parentId: '/cluster' }),
    makeEntry({ id: 'hidden', spiffeId: '/hidden', parentId: '/elsewhere' })
  ])
  t.same(ids(registry.authorizedEntries(node)), ['shared'])
  t.notOk(registry.isAuthorized(node, registry.get('alias') as Entry))
  t.notOk(registry.isAuthorized(node, registry.get('hidden') as Entry))
})

void t.test('a join-token alias works for the agent it names and no other', async t => {
  const registry = new Registry(domain)
  registry.put([
    makeEntry({ id: 'alias', spiffeId: '/node/one', parentId: node.id, selectors: [`spiffe_id:${node.id}`] }),
    makeEntry({ id: 'own', spiffeId: '/own', parentId: '/node/one' })
  ])
  t.same(ids(registry.authorizedEntries(node)), ['own'])
  t.same(ids(registry.authorizedEntries({ id: idOf('/spire/agent/join_token/other'), selectors: [] })), [])
  const forged = { id: idOf('/spire/agent/join_token/other'), selectors: [{ type: 'spiffe_id', value: node.id }] }
  t.same(ids(registry.authorizedEntries(forged)), [], 'an attestor cannot give this selector to another agent')
})

void t.test('cycles among parents end', async t => {
  const registry = new Registry(domain)
  registry.put([
    makeEntry({ id: 'a', spiffeId: '/a', parentId: '/b' }),
    makeEntry({ id: 'b', spiffeId: '/b', parentId: '/a' })
  ])
  t.same(registry.authorizedEntries(node), [])
  t.notOk(registry.isAuthorized(node, registry.get('a') as Entry))
  registry.put([makeEntry({ id: 'bridge', spiffeId: '/a', parentId: node.id })])
  t.same(ids(registry.authorizedEntries(node)), ['a', 'b', 'bridge'])
})

void t.test('climbing and crawling agree, and so do removals, for any forest', async t => {
  const paths = ['/a', '/b', '/c', '/d']
  const entry = fc.record({
    spiffeId: fc.constantFrom(...paths),
    parentId: fc.constantFrom(...paths, '/spire/server', '/spire/agent/join_token/node', '/spire/agent/join_token/other'),
    selectors: fc.subarray(['x:a', 'x:b', 'x:c', `spiffe_id:${node.id}`], { minLength: 1 })
  })
  const changes = fc.array(fc.oneof(
    fc.record({ put: entry, id: fc.constantFrom('1', '2', '3', '4', '5', '6') }),
    fc.record({ remove: fc.constantFrom('1', '2', '3', '4', '5', '6') })
  ), { maxLength: 25 })
  fc.assert(fc.property(changes, changes => {
    const registry = new Registry(domain)
    const model = new Map<string, Entry>()
    for (const change of changes) {
      if ('remove' in change) {
        registry.remove([change.remove])
        model.delete(change.remove)
      } else {
        const made = makeEntry({ ...change.put, id: change.id })
        registry.put([made])
        model.set(made.id, made)
      }
      const served = new Set(ids(registry.authorizedEntries(node)))
      const fresh = new Registry(domain)
      fresh.put([...model.values()])
      if (JSON.stringify([...served]) !== JSON.stringify(ids(fresh.authorizedEntries(node)))) return false
      for (const one of model.values()) if (registry.isAuthorized(node, one) !== served.has(one.id)) return false
    }
    return registry.size === model.size
  }), { numRuns: 300 })
  t.pass('300 histories')
})

/** For any history: what a change touches is told, and an agent that applies only that knows what a new registry would say. */
void t.test('a change touches exactly those whose entries it changes, for any forest', async t => {
  const paths = ['/a', '/b', '/c', '/d']
  const nodes = ['/spire/agent/join_token/node', '/spire/agent/join_token/other', '/spire/agent/join_token/third'].map(idOf)
  const entry = fc.record({
    spiffeId: fc.constantFrom(...paths),
    parentId: fc.constantFrom(...paths, '/spire/server', ...nodes),
    selectors: fc.subarray(['x:a', 'x:b', 'x:c', `spiffe_id:${node.id}`], { minLength: 1 })
  })
  const id = fc.constantFrom('1', '2', '3', '4', '5', '6', '7')
  const change = fc.record({
    entries: fc.array(fc.tuple(id, fc.option(entry, { nil: undefined })), { maxLength: 4 }),
    agents: fc.array(fc.tuple(fc.constantFrom(...nodes), fc.option(fc.subarray(['a', 'b', 'c']), { nil: undefined })), { maxLength: 2 })
  })
  fc.assert(fc.property(fc.array(change, { maxLength: 20 }), changes => {
    const registry = new Registry(domain)
    const entries = new Map<string, Entry>()
    const agents = new Map<SpiffeId, AgentView>()
    const told = new Map<SpiffeId, Map<string, Entry>>()
    for (const step of changes) {
      const changed = {
        entries: new Map(step.entries.map(([id, made]) => [id, made === undefined ? undefined : makeEntry({ ...made, id })])),
        agents: new Map(step.agents.map(([id, values]) =>
          [id, values === undefined ? undefined : { id, selectors: values.map(value => ({ type: 'x', value })) }]))
      }
      const touched = registry.apply(changed)
      for (const [id, entry] of changed.entries) setOrDelete(entries, id, entry)
      for (const [id, agent] of changed.agents) setOrDelete(agents, id, agent)
      for (const [id, touch] of touched) applyTouch(told, registry, agents.get(id), id, touch)
      const fresh = new Registry(domain)
      fresh.apply({ entries, agents: new Map() })
      for (const agent of agents.values()) {
        const now = fresh.authorizedEntries(agent)
        const known = [...told.get(agent.id)?.values() ?? []].toSorted((a, b) => a.id < b.id ? -1 : 1)
        if (known.length !== now.length || known.some((entry, index) => entry !== now[index])) return false
        if (JSON.stringify(ids(registry.authorizedEntries(agent))) !== JSON.stringify(ids(now))) return false
      }
    }
    return true
  }), { numRuns: 500 })
  t.pass('500 histories')
})

function setOrDelete<K, V> (map: Map<K, V>, key: K, value: V | undefined): void {
  if (value === undefined) map.delete(key)
  else map.set(key, value)
}

/** What the push stream does with a touch. */
function applyTouch (
  told: Map<SpiffeId, Map<string, Entry>>, registry: Registry, agent: AgentView | undefined, id: SpiffeId, touch: Touched
): void {
  if (agent === undefined) return void told.delete(id)
  if (touch === 'all') return void told.set(id, new Map(registry.authorizedEntries(agent).map(entry => [entry.id, entry])))
  for (const entryId of touch) {
    const entry = registry.get(entryId)
    setOrDelete(told.get(id) ?? new Map(), entryId, entry !== undefined && registry.isAuthorized(agent, entry) ? entry : undefined)
  }
}

void t.test('who is touched is told what lies below what changed, and agents that are touched alike share one set', async t => {
  const registry = new Registry(domain)
  const agents = new Map(Array.from({ length: 50 }, (_, n) => {
    const id = idOf(`/spire/agent/x/${n}`)
    return [id, { id, selectors: ['cluster', `node-${n}`].map(value => ({ type: 'x', value })) }]
  }))
  registry.apply({ entries: new Map(), agents })
  const alias = makeEntry({ id: 'alias', spiffeId: '/fleet', parentId: '/spire/server', selectors: ['x:cluster'] })
  const parentOf = (n: number) => n === 0 ? '/fleet' : `/e${n - 1}`
  const below = Array.from({ length: 20 }, (_, n) => makeEntry({ id: `e${n}`, spiffeId: `/e${n}`, parentId: parentOf(n) }))
  t.equal(registry.put(below).size, 0)
  const gained = registry.put([alias])
  t.strictSame([...gained.keys()], [...agents.keys()])
  t.strictSame(new Set(gained.values()).size, 1)
  t.strictSame([...gained.values()][0], new Set(below.map(({ id }) => id)), 'not the alias itself: it is not served')
  const middle = below[10] as Entry
  t.strictSame([...registry.put([{ ...middle, hint: 'x' }]).values()][0], new Set(['e10']), 'what lies below does not move with a hint')
  t.strictSame([...registry.put([{ ...alias, hint: 'x' }]).keys()], [], 'nor does anything below an alias')
  t.strictSame([...registry.remove(['e15', 'e19']).values()][0], new Set(ids(below.slice(15))))
  const own = makeEntry({ id: 'own', spiffeId: '/own', parentId: '/spire/agent/x/7' })
  const mixed = registry.put([{ ...below[3] as Entry, parentId: idOf('/nowhere') }, own])
  t.equal(new Set(mixed.values()).size, 2)
  t.ok((mixed.get(idOf('/spire/agent/x/7')) as ReadonlySet<string>).has('own'))
  const many = Array.from({ length: 2_000 }, (_, n) => makeEntry({ id: `m${n}`, spiffeId: `/m${n}`, parentId: '/fleet' }))
  registry.put(many)
  t.strictSame(new Set(registry.remove(['alias']).values()), new Set(['all']), 'so many that comparing all is cheaper')
})

void t.test('an alias finds its agents, and an agent its aliases, by what only few share', async t => {
  const registry = new Registry(domain)
  const nodes = Array.from({ length: 2_000 }, (_, n) => idOf(`/spire/agent/x/${n}`))
  const agentOf = (n: number) => ({ id: nodes[n] as SpiffeId, selectors: ['x:a-cluster', `x:node-${n}`].map(parseSelector) })
  const aliasOf = (n: number) => makeEntry({
    id: `alias-${n}`, spiffeId: `/node/${n}`, parentId: '/spire/server', selectors: ['x:a-cluster', `x:node-${n}`]
  })
  const started = process.cpuUsage()
  registry.apply({ entries: new Map(nodes.map((_, n) => [`alias-${n}`, aliasOf(n)])), agents: new Map() })
  registry.apply({ entries: new Map(), agents: new Map(nodes.map((id, n) => [id, agentOf(n)])) })
  registry.put(nodes.map((_, n) => makeEntry({ id: `w-${n}`, spiffeId: `/w/${n}`, parentId: `/node/${n}` })))
  for (const [n, id] of nodes.entries()) {
    for (const touched of [registry.remove([`alias-${n}`]), registry.put([aliasOf(n)])]) {
      if (touched.size !== 1 || !touched.has(id)) throw new Error(`${id} is touched alone`)
    }
    if (!registry.isAuthorized(agentOf(n), registry.get(`w-${n}`) as Entry)) throw new Error(`${id} may serve what is below its alias`)
  }
  // Some tenths of a second; searching among all that share the cluster takes twenty million comparisons.
  t.ok(process.cpuUsage(started).user < 10_000_000)
})

void t.test('a write whose acknowledgement was lost shows all the same', async t => {
  await using store = await openDatastore(join(t.testdir(), 'datastore.sqlite3'), { clock: new ManualClock(), log: silentLogger })
  const replica = await openTestReplica(store, domain)
  const registrations = new Registrations(losingAnswers(store), replica)
  await t.rejects(registrations.createEntries([makeDraft()]), { code: 'datastore_unavailable' })
  await replica.catchUp()
  const [id = ''] = replica.registry.ids()
  t.ok(replica.registry.get(id), 'stored, so it is shown')
  await t.rejects(registrations.deleteEntries([id]), { code: 'datastore_unavailable' })
  await replica.catchUp()
  t.equal(replica.registry.get(id), undefined, 'gone from the store, so no agent gets it')
})
/** A store that does what it is told and, every first time, loses the connection before it can say so. */
function losingAnswers (store: Datastore): Datastore {
  const lost = new Set<string>()
  const entries = new Proxy(store.entries, {
    get (target, name) {
      const method = Reflect.get(target, name) as (...given: unknown[]) => unknown
      if (name !== 'createMany' && name !== 'deleteMany') return method.bind(target)
      return async (...given: unknown[]) => {
        const answer = await method.apply(target, given)
        if (lost.has(name)) return answer
        lost.add(name)
        throw new SpiffeError('datastore_unavailable', 'connection lost')
      }
    }
  })
  return { ...store, kind: store.kind, agents: store.agents, bundles: store.bundles, entries }
}
