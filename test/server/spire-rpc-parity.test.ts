import t from 'tap'
import { askOurs } from './spire-rpcs/ask-servers.ts'
import { compare } from './spire-rpcs/compare.ts'
import { readFacts } from './spire-rpcs/spire-facts.ts'

t.test('the same requests come to the same statuses, items and answers as with SPIRE 1.15.3 (spire-surface §1.3 to §1.9)', async t => {
  compare(t, await askOurs(), (await readFacts()).told)
})
