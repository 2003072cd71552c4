import { spawnSync } from 'node:child_process'
import t from 'tap'
import { builtProgram } from '../../scripts/cached-build.ts'
import { withoutSpireServer } from '../fakes/spire.ts'
import { spireServer } from '../fakes/spire-programs.ts'
import { askOurs, askSpires } from './spire-rpcs/ask-servers.ts'
import { compare } from './spire-rpcs/compare.ts'
import { readFacts, writeFacts } from './spire-rpcs/spire-facts.ts'

/** RECORD_SPIRE_FACTS=1 writes down anew what the real server says. */
t.test('the real server and ours answer the same requests alike, and what is written down of the real one is true', {
  skip: withoutSpireServer, timeout: 300_000
}, async t => {
  const { stdout, stderr } = spawnSync(await builtProgram(spireServer), ['--version'], { encoding: 'utf8' })
  const version = `${stdout}${stderr}`.trim()
  t.match(version, /^1\.15\.3/)
  const told = await askSpires()
  if (process.env['RECORD_SPIRE_FACTS'] === '1') await writeFacts({ version, told })
  const written = await readFacts()
  for (const [index, step] of told.entries()) t.strictSame(step, written.told[index], step.step)
  compare(t, await askOurs(), told)
})
