import t from 'tap'
import { decideAdministration } from '../../../src/authz/admin/decide.ts'
import { AdminRoles } from '../../../src/authz/admin/role.ts'
import type { SpiffeId } from '../../../src/spiffe/spiffe-id.ts'
import { chooseSeed, Random } from '../../fakes/random.ts'
import { testRoles } from '../../fakes/roles.ts'
import { mayDo, privilegesOf, randomQuestion, type Question } from './role-model.ts'

void t.test('30 000 random questions are answered as the oracle answers them', async t => {
  const seed = chooseSeed()
  const random = new Random(seed)
  const wrong: Question[] = []
  const answers = { true: 0, false: 0 }
  for (let index = 0; index < 30_000; index++) {
    const question = randomQuestion(random)
    const roles = new AdminRoles(testRoles(...question.roles))
    const held = 'uid' in question.holder ? roles.ofUid(question.holder.uid) : roles.ofId(question.holder.id as SpiffeId)
    const expected = mayDo(question)
    answers[`${expected}`]++
    const { allowed } = decideAdministration(held, question.verb, question.object, privilegesOf(question))
    if (allowed !== expected) wrong.push(question)
  }
  t.equal(wrong.length, 0, `seed ${seed}; the first that is not: ${JSON.stringify(wrong[0])}`)
  t.comment(`seed ${seed}: ${JSON.stringify(answers)}`)
  t.ok(answers.true > 4_000 && answers.false > 4_000, 'both answers occur')
})
