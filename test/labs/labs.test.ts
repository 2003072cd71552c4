import { existsSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { findLabs } from '../../labs/frame/find-labs.ts'
import { testLab } from './check-lab.ts'

const labs = await findLabs()

await t.test('each lab has its page', async t => {
  t.ok(labs.length > 0)
  for (const { name } of labs) t.ok(existsSync(join(import.meta.dirname, `../../docs/labs/${name}.md`)), name)
})

// Files are timed as a whole: those that take long have one of their own.
const ownFile = (name: string) => existsSync(join(import.meta.dirname, `${name}.test.ts`))
for (const { name } of labs.filter(({ name, lab }) => lab.proof === 'test' && !ownFile(name))) await testLab(name)
