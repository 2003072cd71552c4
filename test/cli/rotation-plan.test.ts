import fc from 'fast-check'
import t from 'tap'
import { allOf, nextStep, slotsOf, type Goal, type RotationStep, type Slots } from '../../src/cli/rotate/rotation-plan.ts'
import { holds } from '../fakes/holds.ts'

const slots = (active: string | undefined, prepared?: string, old?: string, tainted = false): Slots =>
  ({ active, prepared, old: old === undefined ? undefined : { id: old, tainted } })
const goal = (leaving: string, drill = false): Goal => ({ leaving: new Set(leaving), drill })

void t.test('what is next follows from the state alone', async t => {
  const cases: [string, Slots, Goal, RotationStep | undefined][] = [
    ['nothing was done yet', slots('a'), goal('a'), { verb: 'prepare' }],
    ['a successor is prepared', slots('a', 'n'), goal('a'), { verb: 'activate', authorityId: 'n' }],
    ['the one that was prepared must go too', slots('a', 'p'), goal('ap'), { verb: 'prepare' }],
    ['the successor signs', slots('n', undefined, 'a'), goal('a'), { verb: 'taint', authorityId: 'a' }],
    ['the old one is tainted', slots('n', undefined, 'a', true), goal('a'), { verb: 'revoke', authorityId: 'a' }],
    ['all is done', slots('n'), goal('a'), undefined],
    ['an old one must go before another activation', slots('a', 'n', 'o'), goal('oa'), { verb: 'taint', authorityId: 'o' }],
    ['an old one that may stay is let be', slots('a', 'n', 'o'), goal('a'), { verb: 'activate', authorityId: 'n' }],
    ['a prepared one that must go does not stay to be activated', slots('n', 'p'), goal('ap'), { verb: 'prepare' }],
    ['nothing signs', slots(undefined), goal(''), { verb: 'prepare' }],
    ['a drill begins', slots('a'), goal('a', true), { verb: 'prepare' }],
    ['a drill goes on', slots('a', 'n'), goal('a', true), { verb: 'activate', authorityId: 'n' }],
    ['a drill ends', slots('n', undefined, 'a'), goal('a', true), undefined]
  ]
  for (const [what, state, wish, step] of cases) t.strictSame(nextStep(state, wish), step, what)
})

void t.test('the state as servers tell it', async t => {
  const authority = (kind: string, authorityId: string, state: string) => ({ kind, authorityId, state, expiresAt: 0n })
  const authorities = [
    authority('x509', 'a', 'active'), authority('x509', 'o', 'tainted'), authority('jwt', 'j', 'active'), authority('jwt', 'k', 'old')
  ]
  t.strictSame(slotsOf(authorities, 'x509'), slots('a', undefined, 'o', true))
  t.strictSame(slotsOf(authorities, 'jwt'), slots('j', undefined, 'k'))
  t.strictSame(allOf(slots('a', 'p', 'o'), false), ['o', 'a', 'p'])
  t.strictSame(allOf(slots('a', 'p', 'o'), true), ['a', 'p'], 'a drill leaves alone what does not sign any more')
})

void t.test('from every state the goal is reached, by steps that servers allow, wherever a run begins', async t => {
  const ids = ['a', 'p', 'o']
  const anyState = fc.record({
    prepared: fc.option(fc.constant('p'), { nil: undefined }),
    old: fc.option(fc.constant('o'), { nil: undefined }),
    tainted: fc.boolean(),
    leaving: fc.subarray(ids),
    drill: fc.boolean()
  })
  await holds(t, 'in a few steps', fc.property(anyState, ({ prepared, old, tainted, leaving, drill }) => {
    const wish = { leaving: new Set(leaving), drill }
    let state = slots('a', prepared, old, tainted)
    let count = 0
    for (let step = nextStep(state, wish); step !== undefined; step = nextStep(state, wish)) {
      if (++count > 8) throw new Error(`goes on and on: ${JSON.stringify({ state, step })}`)
      state = make(step, state, `new${count}`)
    }
    const left = (drill ? [state.active ?? ''] : allOf(state, false)).filter(id => wish.leaving.has(id))
    if (left.length > 0) throw new Error(`${left.join(' ')} is left`)
    if (drill && state.old?.tainted === true && state.old.id !== 'o') throw new Error('a drill taints nothing')
  }))
})

/** As `AuthoritySlots` does it. */
function make (step: RotationStep, { active, prepared, old }: Slots, fresh: string): Slots {
  if (step.verb === 'prepare') return { active, prepared: fresh, old }
  if (step.verb === 'activate') {
    if (prepared !== step.authorityId) throw new Error('only prepared ones can be activated')
    return slots(prepared, undefined, active)
  }
  if (old?.id !== step.authorityId || old.tainted !== (step.verb === 'revoke')) throw new Error(`${step.verb} out of turn`)
  return step.verb === 'taint' ? { active, prepared, old: { ...old, tainted: true } } : { active, prepared, old: undefined }
}
