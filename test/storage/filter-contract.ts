import fc from 'fast-check'
import type { Test } from 'tap'
import type { Agent } from '../../src/spiffe/agent.ts'
import type { Entry } from '../../src/spiffe/entry.ts'
import { formatSelector } from '../../src/spiffe/selector.ts'
import type { EntryFilter } from '../../src/storage/entry-store.ts'
import type { AgentFilter } from '../../src/storage/agent-store.ts'
import type { MatchKind, SetMatch } from '../../src/storage/set-match.ts'
import { agent, bundle, domain, draft, everyPage, id, openFresh, selectors, type DatabaseKind } from './fixture.ts'

const domains = ['a.test', 'b.test', 'c.test'].map(domain)
const facts = selectors('a:1', 'a:2', 'b:1', 'b:1:2')
const kinds: readonly MatchKind[] = ['exact', 'subset', 'superset', 'any']

/** The rules of spire-surface §1.5, in memory. */
function matches<T> (held: readonly T[], { match, values }: SetMatch<T>, key: (value: T) => string): boolean {
  const has = new Set(held.map(key))
  const asked = new Set(values.map(key))
  switch (match) {
    case 'exact': return has.size === asked.size && has.isSubsetOf(asked)
    case 'subset': return has.size > 0 && has.isSubsetOf(asked)
    case 'superset': return has.isSupersetOf(asked)
    default: return !has.isDisjointFrom(asked)
  }
}

function entryMatches (entry: Entry, filter: EntryFilter): boolean {
  return (filter.spiffeId === undefined || entry.spiffeId === filter.spiffeId) &&
    (filter.parentId === undefined || entry.parentId === filter.parentId) &&
    (!filter.hint || entry.hint === filter.hint) &&
    (!filter.downstream || entry.downstream) &&
    (filter.selectors === undefined || matches(entry.selectors, filter.selectors, formatSelector)) &&
    (filter.federatesWith === undefined || matches(entry.federatesWith, filter.federatesWith, String))
}

function setOf<T> (values: readonly T[]): fc.Arbitrary<SetMatch<T>> {
  return fc.record({ match: fc.constantFrom(...kinds), values: fc.array(fc.constantFrom(...values), { minLength: 1, maxLength: 5 }) })
}

const parents = [id('/spire/server'), id('/spire/agent/join_token/node')] as const
const paths = ['x', 'y', 'z']

const entryFilters: fc.Arbitrary<EntryFilter> = fc.record({
  spiffeId: fc.constantFrom(...paths.map(path => id(`/${path}`)), id('/nobody')),
  parentId: fc.constantFrom(...parents),
  selectors: setOf(facts),
  federatesWith: setOf(domains),
  hint: fc.constantFrom('', 'h', 'H'),
  downstream: fc.boolean()
}, { requiredKeys: [] })

const drafts = fc.record({
  path: fc.constantFrom(...paths),
  parentId: fc.constantFrom(...parents),
  selectors: fc.subarray(facts, { minLength: 1 }),
  federatesWith: fc.subarray(domains),
  hint: fc.constantFrom('', 'h'),
  downstream: fc.boolean()
})

export async function filterContract (t: Test, database: DatabaseKind): Promise<void> {
  await t.test('entry filters mean what spire-surface §1.5 says', async t => {
    const { store } = await openFresh(t, database)
    for (const name of domains) await store.bundles.set(bundle(name))
    const sampled = fc.sample(drafts, { numRuns: 150, seed: 7 })
    const outcomes = await store.entries.createMany(sampled.map(({ path, ...rest }) => draft(path, rest)))
    const entries = outcomes.flatMap(outcome => outcome.kind === 'created' ? [outcome.entry] : [])
    const found = { some: 0, none: 0 }
    await fc.assert(fc.asyncProperty(entryFilters, fc.integer({ min: 1, max: 40 }), async (filter, size) => {
      const expected = entries.filter(entry => entryMatches(entry, filter))
      found[expected.length === 0 ? 'none' : 'some']++
      const walked: Entry[] = []
      for (let token = ''; ;) {
        const page = await store.entries.list(filter, { size, token })
        walked.push(...page.entries)
        token = page.nextPageToken
        if (token === '') break
      }
      t.strictSame(walked.map(entry => entry.id), expected.map(entry => entry.id), JSON.stringify(filter))
      t.equal(await store.entries.count(filter), expected.length, 'count agrees with list')
    }), { numRuns: 200 })
    t.ok(found.some > 40 && found.none > 5, `the property saw both: ${JSON.stringify(found)}`)
  })

  await t.test('agent filters mean what spire-surface §1.3 says', async t => {
    const { store } = await openFresh(t, database)
    const agents: Agent[] = []
    for (let n = 0; n < 32; n++) {
      const stored = await store.agents.attest(agent(`n${n}`, {
        attestationType: n % 2 === 0 ? 'join_token' : 'x509pop',
        canReattest: n % 3 === 0,
        expiresAt: new Date(1000 * n),
        selectors: facts.filter((_, bit) => (n >> bit) % 2 === 1)
      }))
      agents.push(n % 5 === 0 ? await store.agents.ban(stored.id) : stored)
    }
    const filters: fc.Arbitrary<AgentFilter> = fc.record({
      attestationType: fc.constantFrom('', 'join_token', 'x509pop', 'unknown'),
      selectors: setOf(facts),
      banned: fc.boolean(),
      canReattest: fc.boolean(),
      expiresBefore: fc.integer({ min: -1, max: 33_000 }).map(ms => new Date(ms))
    }, { requiredKeys: [] })
    await fc.assert(fc.asyncProperty(filters, async filter => {
      const expected = agents.filter(found =>
        (!filter.attestationType || found.attestationType === filter.attestationType) &&
        (filter.selectors === undefined || matches(found.selectors, filter.selectors, formatSelector)) &&
        (filter.banned === undefined || found.banned === filter.banned) &&
        (filter.canReattest === undefined || found.canReattest === filter.canReattest) &&
        (filter.expiresBefore === undefined || found.expiresAt < filter.expiresBefore))
      t.strictSame((await store.agents.list(filter, everyPage)).agents, expected, JSON.stringify(filter))
      t.equal(await store.agents.count(filter), expected.length)
    }), { numRuns: 100 })
    const first = await store.agents.list({}, { size: 30, token: '' })
    const second = await store.agents.list({}, { size: 30, token: first.nextPageToken })
    t.strictSame([...first.agents, ...second.agents], agents, 'pages join up')
    await t.rejects(store.agents.list({}, { size: 1, token: 'x' }), { code: 'page_token_malformed' })
  })
}
