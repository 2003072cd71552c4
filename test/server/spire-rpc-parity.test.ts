import t from 'tap'
import { askOurs } from './spire-rpcs/ask-servers.ts'
import { compare, unquoted } from './spire-rpcs/compare.ts'
import { settingNames, settings } from './spire-rpcs/settings.ts'
import { readFacts } from './spire-rpcs/spire-facts.ts'

const { told } = await readFacts()

for (const setting of settingNames) {
  t.test(`${setting}: requests come to the same statuses, items and answers as with SPIRE 1.15.3 (spire-surface §1.3 to §1.9)`, async t => {
    compare(t, settings[setting], await askOurs(setting), told[setting])
  })
}

t.test('SPIRE says all that is quoted of it', async t => t.same(unquoted(Object.values(told).flat()), []))
