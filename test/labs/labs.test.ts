import { existsSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { findLabs } from '../../labs/frame/find-labs.ts'
import { checkLab, whyNot } from './check-lab.ts'

const labs = await findLabs()

await t.test('each lab has its page', async t => {
  t.ok(labs.length > 0)
  for (const { name } of labs) t.ok(existsSync(join(import.meta.dirname, `../../docs/labs/${name}.md`)), name)
})

for (const lab of labs.filter(({ lab }) => lab.proof === 'test')) {
  await t.test(`the lab ${lab.name}`, { skip: await whyNot(lab), timeout: 280_000 }, t => checkLab(t, lab))
}
