import t from 'tap'
import { Stay } from '../../../src/authz/rego/stay.ts'

t.test('the time that a thread is in one evaluation', t => {
  const stay = new Stay(250)
  t.equal(stay.look({ begun: 1, ended: 0 }, 1_000), 0, 'since when nobody knows')
  t.equal(stay.look({ begun: 1, ended: 0 }, 1_125), 125)
  t.equal(stay.look({ begun: 1, ended: 0 }, 1_260), 260)
  t.equal(stay.look({ begun: 2, ended: 1 }, 1_385), 0, 'the next one')
  t.equal(stay.look({ begun: 2, ended: 1 }, 1_510), 125)
  t.equal(stay.look({ begun: 2, ended: 2 }, 1_635), 0, 'in none')
  t.end()
})

t.test('a machine that stood still for longer than the limit ends no evaluation by that', t => {
  const limitMs = 500
  const stay = new Stay(limitMs / 2)
  stay.look({ begun: 1, ended: 0 }, 0)
  t.ok(stay.look({ begun: 1, ended: 0 }, 3_000) < limitMs)
  t.ok(stay.look({ begun: 1, ended: 0 }, 3_125) < limitMs)
  t.equal(stay.look({ begun: 1, ended: 0 }, 3_250), limitMs, 'one that does not end is ended all the same')
  t.end()
})
