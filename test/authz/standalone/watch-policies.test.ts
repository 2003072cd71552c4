import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { readPolicies } from '../../../src/authz/policy/read-policies.ts'
import { openPolicies } from '../../../src/authz/standalone/watch-policies.ts'
import { capturedLog } from '../../fakes/captured-log.ts'
import { ManualClock } from '../../fakes/clock.ts'
import { eventually } from '../../fakes/eventually.ts'

/** A rule by the name of the set's state. */
const policies = (state: string) => `apiVersion: assay/v1
kind: Policy
name: web
rules:
- { name: ${state}, action: allow }
`

t.test('files that change while they are read are read again, and what was half read is never in force', async t => {
  const folder = t.testdir({ 'web.yaml': policies('first') })
  const path = join(folder, 'web.yaml')
  const clock = new ManualClock()
  const { log, lines } = capturedLog()
  const inForce = () => active.value.engine.set.rules.map(({ name }) => name).join()
  const { active, run } = await openPolicies({
    paths: [folder],
    parse (texts) {
      // Just when `second` is being read.
      if (texts[0]?.text === policies('second')) writeFileSync(path, policies('third'))
      return readPolicies(texts)
    }
  }, { clock, log })
  t.equal(inForce(), 'web/first')
  // Nobody watches yet.
  writeFileSync(path, policies('since'))
  const stop = new AbortController()
  const running = run(stop.signal).catch(() => {})
  t.teardown(async () => { stop.abort(); await running })
  await eventually('what changed after the first reading is in force', async () => {
    await clock.advance(500)
    return inForce() === 'web/since'
  })
  const seen = new Set<string>()
  writeFileSync(path, policies('second'))
  await eventually('the last one is in force', async () => {
    await clock.advance(500)
    seen.add(inForce())
    return inForce() === 'web/third'
  })
  t.notOk(seen.has('web/second'), 'it was being written again when it was read')
  t.equal(lines.filter(({ msg }) => msg === 'policies taken over').length, 2)
})
