import t from 'tap'
import { boundedMatches, inLimitedTime } from '../../src/golang/bounded-matches.ts'
import { GoRegexpError } from '../../src/golang/go-regexp.ts'
import { standStill } from '../fakes/stand-still.ts'

void t.test('a pattern that takes too long is stopped', async t => {
  t.throws(() => boundedMatches('^(a+)+$', `${'a'.repeat(50)}b`), new GoRegexpError('takes longer than 100 ms on a text of 51 characters'))
})

void t.test('time that the machine took is not the pattern\'s', async t => {
  let attempts = 0
  const find = () => {
    if (++attempts < 3) standStill(60_000)
    return 'found'
  }
  t.equal(inLimitedTime(find, 'here'), 'found')
  t.equal(attempts, 3)
})
