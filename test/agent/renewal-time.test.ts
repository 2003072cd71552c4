import t from 'tap'
import { renewalTimeMs } from '../../src/agent/renewal-time.ts'

const hour = 3_600_000
const lifeOf = (hours: number) => ({ notBefore: new Date(0), notAfter: new Date(hours * hour) })

void t.test('when an SVID is renewed (spire-surface §2.2)', async t => {
  const at = (hours: number, random: number, availabilityHours?: number) =>
    renewalTimeMs(lifeOf(hours), 0.1, random, new Date(0), availabilityHours === undefined ? undefined : availabilityHours * hour) / hour
  t.equal(at(100, 0), 50, 'at half of its life')
  t.equal(at(100, 1), 40, 'or a little earlier')
  t.equal(at(100, 0, 72), 28, 'availability_target: when it has that left')
  t.equal(at(100, 1, 72), 28 - 1 / 6, 'and up to 10 minutes more')
  t.equal(at(100, 0, 24), 50, 'half of its life comes first')
  t.equal(at(36, 0, 24), 18, 'a life of 12 hours beyond the target, or less: as if there were none')
  t.equal(at(37, 0, 24), 13)
})
