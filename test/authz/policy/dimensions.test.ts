import t from 'tap'
import { ByKey, keysOf } from '../../../src/authz/policy/dimensions.ts'
import { type Match, matches } from '../../../src/authz/policy/match.ts'
import type { Rule } from '../../../src/authz/policy/rule.ts'
import { chooseSeed, Random } from '../../fakes/random.ts'

function ruleOf (match: Match): Rule {
  return {
    name: 'p/r', policy: 'p', action: 'deny', target: [], from: undefined, to: [[{ fact: { name: 'method' }, any: [match] }]], when: [],
    shadow: false
  }
}

t.test('what a value meets is under one of its keys, whatever the characters', t => {
  const random = new Random(chooseSeed())
  const text = (most: number) => Array.from({ length: random.below(most) + 1 }, () => random.pick(['a', '/', '=', '*', 'b'])).join('')
  let found = 0
  for (let i = 0; i < 20_000; i++) {
    const value = text(6)
    const match: Match = random.chance(0.5) ? { kind: 'exact', value: random.chance(0.5) ? value : text(6) }
      : { kind: 'prefix', value: random.chance(0.7) ? value.slice(0, random.below(value.length) + 1) : text(3) }
    const kept = new ByKey<Match>()
    for (const key of keysOf('method', ruleOf(match))) {
      kept.set(key, match)
      if (kept.get(key) !== match) t.fail(`${key} is lost`)
    }
    const isFound = kept.some([value], one => one === match)
    if (matches(match, value) && !isFound) t.fail(`${JSON.stringify(value)} does not find ${JSON.stringify(match)}`)
    if (isFound) found++
  }
  t.ok(found > 1_000, 'the comparison is of something')
  t.end()
})

t.test('of a fact that nobody knows only what is about anything is found', t => {
  const kept = new ByKey<string>()
  kept.set('*', 'anything')
  kept.set('=a', 'exact')
  kept.set('a/', 'begins')
  const under = (values: readonly string[] | undefined) => {
    const seen: string[] = []
    kept.some(values, one => { seen.push(one); return false })
    return seen
  }
  t.same(under(undefined), ['anything'])
  t.same(under([]), ['anything'])
  t.same(under(['a']), ['anything', 'exact'])
  t.same(under(['a/b']), ['anything', 'begins'])
  t.same(kept.all(), ['anything', 'exact', 'begins'])
  t.equal(kept.some(['a'], one => one === 'anything'), true, 'ends with the first that is wanted')
  t.end()
})
