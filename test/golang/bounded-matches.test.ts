import t from 'tap'
import { boundedMatches, inLimitedTime } from '../../src/golang/bounded-matches.ts'
import { GoRegexpError } from '../../src/golang/go-regexp.ts'

void t.test('a pattern that takes too long is stopped', async t => {
  t.throws(() => boundedMatches('^(a+)+$', `${'a'.repeat(50)}b`), new GoRegexpError('takes longer than 100 ms on a text of 51 characters'))
})

void t.test('time that the machine took is not the pattern\'s', async t => {
  let attempts = 0
  const find = () => {
    // Stopped, as by a machine that stands still.
    if (++attempts < 3) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 60_000)
    return 'found'
  }
  t.equal(inLimitedTime(find, 'here'), 'found')
  t.equal(attempts, 3)
})
