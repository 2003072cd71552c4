import t from 'tap'
import { ConnectionSecrets } from '../../src/mesh/ads/connection-secrets.ts'
import { SpiffeError } from '../../src/spiffe/errors.ts'
import type { Selector } from '../../src/spiffe/selector.ts'
import { capturedLog } from '../fakes/captured-log.ts'
import { ManualClock } from '../fakes/clock.ts'
import { eventually } from '../fakes/eventually.ts'
import { FakeIdentities, identityOf, TestTrustDomain } from '../fakes/identities.ts'

const domain = await TestTrustDomain.create('example.org')
const alice: readonly Selector[] = [{ type: 'unix', value: 'uid:1000' }]
const identities = new FakeIdentities(domain.bundle)
identities.set(alice, identityOf(domain.bundle, [await domain.issue('/alice')]))

function open (t: { teardown (end: () => void): void }, attest: () => Promise<readonly Selector[]>) {
  const clock = new ManualClock()
  const { log, lines } = capturedLog()
  const changes = { count: 0 }
  const secrets = new ConnectionSecrets({ attest, identities, clock, log, onChange: () => { changes.count++ } })
  t.teardown(() => secrets[Symbol.dispose]())
  return { secrets, clock, lines, changes }
}

t.test('a connection\'s secret is there for its handshake, and its name means nothing afterwards', async t => {
  const { secrets, clock } = open(t, async () => alice)
  t.equal(secrets.find('conn/a').kind, 'pending')
  await eventually('it is found', () => secrets.find('conn/a').kind === 'usable')
  await clock.advance(3_000)
  t.equal(secrets.find('conn/a').kind, 'absent')
  await clock.advance(10_000)
  t.equal(secrets.find('conn/a').kind, 'pending', 'whoever asks much later is looked at again')
})

t.test('how many come in a moment is bounded by what is looked for, not by what was found', async t => {
  const { secrets, clock, changes } = open(t, async () => alice)
  for (let n = 0; n < 1_000; n += 100) {
    for (let i = n; i < n + 100; i++) secrets.find(`conn/${i}`)
    await eventually('all are answered', () => changes.count === n + 100)
  }
  t.equal(secrets.find('conn/0').kind, 'usable', 'the first one is still kept')
  await clock.advance(13_000)

  const never = Promise.withResolvers<readonly Selector[]>()
  const slow = open(t, () => never.promise)
  for (let i = 0; i < 200; i++) t.equal(slow.secrets.find(`conn/${i}`).kind, 'pending')
  t.equal(slow.secrets.find('conn/200').kind, 'absent', 'nobody is looked for beyond two hundred')
  never.reject(new SpiffeError('connection_unknown', 'gone'))
  await eventually('they are done', () => slow.changes.count === 200)
  t.equal(slow.secrets.find('conn/0').kind, 'absent')
  t.equal(slow.secrets.find('conn/201').kind, 'pending')
  t.equal(slow.lines.filter(({ msg }) => msg === 'a connection has no identity').length, 200, 'each is told of')
})

t.test('names that are remembered have an end', async t => {
  const { secrets, clock, changes } = open(t, async () => [])
  for (let n = 0; n < 10_000; n += 200) {
    for (let i = n; i < n + 200; i++) secrets.find(`conn/${i}`)
    await eventually('all are answered', () => changes.count === n + 200)
  }
  t.equal(secrets.find('conn/more').kind, 'absent')
  await clock.advance(10_000)
  t.equal(secrets.find('conn/more').kind, 'pending')
})
