import t from 'tap'
import { PolicyIndex } from '../../src/server/policy-index.ts'
import { PolicySteps } from '../../src/server/push/policy-feed.ts'
import type { Entry } from '../../src/spiffe/entry.ts'
import type { PolicyVersion } from '../../src/spiffe/policy-version.ts'
import { selectorListKey } from '../../src/spiffe/selected-ids.ts'
import { makeEntry } from '../fakes/entries.ts'
import { makePolicyVersion } from '../fakes/policies.ts'

/** An index beside a registry, changed as a replica does. */
class Indexed {
  readonly index = new PolicyIndex()
  readonly entries = new Map<string, Entry>()
  /** How often all entries were looked through. */
  scans = 0

  change (changes: Readonly<Record<string, Entry | undefined>>, active?: { readonly version: PolicyVersion | undefined }) {
    const map = new Map(Object.entries(changes))
    this.index.takeEntries(map, id => this.entries.get(id))
    for (const [id, entry] of map) {
      if (entry === undefined) this.entries.delete(id)
      else this.entries.set(id, entry)
    }
    if (active !== undefined) {
      this.index.takeActive(active.version, () => {
        this.scans++
        return this.entries.values()
      })
    }
    return this.index.show()
  }

  idsOf (...selectors: string[]): string[] | undefined {
    const ids = this.index.state.selected.get(selectorListKey(selectors))
    return ids && [...ids].map(id => id.replace('spiffe://example.org', '')).toSorted()
  }
}

const entry = (id: string, spiffeId: string, ...selectors: string[]) => makeEntry({ id, spiffeId, selectors })
const version = (number: number, ...selectors: string[][]) => ({ version: makePolicyVersion(number, { selectors }) })

t.test('who is meant by a list: those whose entry has all of its selectors', t => {
  const indexed = new Indexed()
  t.equal(indexed.change({ a: entry('a', '/a', 'unix:uid:1'), b: entry('b', '/b', 'unix:uid:1', 'unix:gid:1') }), false, 'nobody asks')
  t.equal(indexed.change({}, version(1, ['unix:uid:1'], ['unix:gid:1', 'unix:uid:1'], ['x:y'])), true)
  t.strictSame([indexed.idsOf('unix:uid:1'), indexed.idsOf('unix:gid:1', 'unix:uid:1'), indexed.idsOf('x:y')], [['/a', '/b'], ['/b'], []])
  t.equal(indexed.change({ c: entry('c', '/c', 'unix:uid:2') }), false, 'of whom nobody speaks')
  const before = indexed.index.state
  const renamed = makeEntry({ id: 'a', spiffeId: '/a', selectors: ['unix:uid:1'], hint: 'other' })
  t.equal(indexed.change({ a: renamed }), false, 'a change of something else')
  t.equal(indexed.change({ a: undefined, d: entry('d', '/a', 'unix:uid:1') }), false, 'another entry for the same ID')
  t.equal(indexed.index.state, before)
  t.equal(indexed.change({ b: entry('b', '/e', 'unix:uid:1') }), true, 'an entry that gets another ID, and loses a selector')
  t.strictSame([indexed.idsOf('unix:uid:1'), indexed.idsOf('unix:gid:1', 'unix:uid:1')], [['/a', '/e'], []])
  t.equal(indexed.scans, 1, 'all entries were looked through once')

  t.equal(indexed.change({}, version(2, ['unix:uid:1'])), true)
  t.equal(indexed.scans, 1, 'a list that was known is not looked for again')
  t.strictSame([...indexed.index.state.selected.keys()], [selectorListKey(['unix:uid:1'])])
  t.equal(indexed.change({}, version(2, ['unix:uid:1'])), false, 'the same version once more')
  indexed.change({ f: entry('f', '/f', 'x:y') }, version(3, ['unix:uid:1'], ['x:y']))
  t.strictSame([indexed.idsOf('unix:uid:1'), indexed.idsOf('x:y')], [['/a', '/e'], ['/f']], 'an entry and a list that come together')
  indexed.change({}, { version: undefined })
  t.strictSame(indexed.index.state, { active: undefined, selected: new Map() })
  t.end()
})

t.test('those that follow closely are told the same, once', t => {
  const indexed = new Indexed()
  const steps = new PolicySteps()
  const nothing = indexed.index.state
  indexed.change({ a: entry('a', '/a', 'unix:uid:1') }, version(1, ['unix:uid:1'], ['x:y']))
  const first = indexed.index.state
  t.equal(steps.between(first, first), undefined)
  t.match(steps.between(undefined, nothing), { whole: true, version: 0, texts: [], selected: [] }, 'none is told too')
  const whole = steps.between(nothing, first)
  t.match(whole, { whole: true, version: 1, texts: [{}], selected: [{ ids: ['spiffe://example.org/a'] }, { ids: [] }] })
  t.equal(steps.between(undefined, first), whole, 'the same object for whoever must know all')
  indexed.change({ a: undefined, b: entry('b', '/b', 'unix:uid:1') })
  const change = steps.between(first, indexed.index.state)
  t.strictSame(change?.selected, [{ selectors: ['unix:uid:1'], ids: ['spiffe://example.org/b'], removedIds: ['spiffe://example.org/a'] }])
  t.match(change, { whole: false, version: 1, texts: [] })
  t.equal(steps.between(first, indexed.index.state), change)
  indexed.change({ c: entry('c', '/b', 'unix:uid:1'), b: undefined })
  t.equal(steps.between(first, indexed.index.state)?.selected.length, 1, 'a slow one skips what was between')
  t.end()
})
