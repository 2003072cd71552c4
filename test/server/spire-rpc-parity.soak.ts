import { spawnSync } from 'node:child_process'
import t from 'tap'
import { builtProgram } from '../../scripts/cached-build.ts'
import { withoutSpireServer } from '../fakes/spire.ts'
import { spireServer } from '../fakes/spire-programs.ts'
import { askOurs, askSpires } from './spire-rpcs/ask-servers.ts'
import { compare } from './spire-rpcs/compare.ts'
import { settingNames, settings } from './spire-rpcs/settings.ts'
import { readFacts, writeFacts } from './spire-rpcs/spire-facts.ts'

/** RECORD_SPIRE_FACTS=1 writes down anew what the real server says. */
t.test('the real server and ours answer the same requests alike, and what is written down of the real one is true', {
  skip: withoutSpireServer, timeout: 300_000
}, async t => {
  const { stdout, stderr } = spawnSync(await builtProgram(spireServer), ['--version'], { encoding: 'utf8' })
  const version = `${stdout}${stderr}`.trim()
  t.match(version, /^1\.15\.3/)
  const told = { usual: await askSpires('usual'), withoutJwt: await askSpires('withoutJwt'), upstream: await askSpires('upstream') }
  if (process.env['RECORD_SPIRE_FACTS'] === '1') await writeFacts({ version, told })
  const written = await readFacts()
  for (const setting of settingNames) {
    for (const [index, step] of told[setting].entries()) t.strictSame(step, written.told[setting][index], step.step)
    compare(t, settings[setting], await askOurs(setting), told[setting])
  }
})
