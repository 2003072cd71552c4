import t from 'tap'
import { findLabs } from '../../labs/frame/find-labs.ts'
import { checkLab, whyNot } from './check-lab.ts'

for (const lab of (await findLabs()).filter(({ lab }) => lab.proof === 'soak')) {
  await t.test(`the lab ${lab.name}`, { skip: await whyNot(lab), timeout: 900_000 }, t => checkLab(t, lab))
}
