import fc from 'fast-check'
import t from 'tap'
import { Registry } from '../../src/server/registry.ts'
import type { Entry } from '../../src/spiffe/entry.ts'
import { parseTrustDomain } from '../../src/spiffe/trust-domain.ts'
import { idOf, makeEntry } from '../fakes/entries.ts'

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
      fresh.put(model.values())
      if (JSON.stringify([...served]) !== JSON.stringify(ids(fresh.authorizedEntries(node)))) return false
      for (const one of model.values()) if (registry.isAuthorized(node, one) !== served.has(one.id)) return false
    }
    return registry.size === model.size
  }), { numRuns: 300 })
  t.pass('300 histories')
})
