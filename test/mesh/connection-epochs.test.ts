import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { connectionAccess } from '../../src/authz/rbac/connection-access.ts'
import { readPolicies } from '../../src/authz/policy/read-policies.ts'
import { ConnectionEpochs } from '../../src/mesh/resources/connection-epochs.ts'
import { epochsIn } from '../../src/mesh/resources/stored-epochs.ts'
import { parseSpiffeId } from '../../src/spiffe/spiffe-id.ts'

const access = (...ids: string[]) => connectionAccess(readPolicies([{ name: 'test', text: JSON.stringify({
  apiVersion: 'assay/v1', kind: 'Policy', name: 'p',
  rules: [{ name: 'r', action: 'allow', from: [{ ids: ids.map(id => `spiffe://lab.test/${id}`) }] }]
}) }]), parseSpiffeId('spiffe://lab.test/x'))

t.test('connections are of one epoch until somebody loses his right', t => {
  const path = join(mkdtempSync(join(tmpdir(), 'epochs-')), 'epochs.json')
  const agent = () => new ConnectionEpochs(epochsIn(path))
  const tell = (epochs: ConnectionEpochs, ...ids: string[]) => {
    const name = epochs.of('uid', access(...ids))
    epochs.keep(new Set(['uid']))
    return name
  }
  const one = agent()
  const first = tell(one, 'a')
  t.equal(tell(one, 'a', 'b'), first, 'one more is let in')
  const restarted = agent()
  t.equal(tell(restarted, 'a', 'b'), first, 'an agent that restarts ends none')
  t.not(tell(agent(), 'a'), first, 'unless rules changed meanwhile: who was let in by those of before may still be there')

  const two = agent()
  const wide = tell(two, 'a', 'b')
  const narrow = tell(two, 'a')
  t.not(narrow, wide, 'b has lost it')
  const again = tell(two, 'a', 'b')
  t.equal(again, narrow, 'and gets it back')
  t.not(tell(two, 'b'), again)

  two.keep(new Set())
  t.equal(readFileSync(path, 'utf8'), '{}', 'a workload that has gone is forgotten')
  const kept = tell(two, 'a')
  writeFileSync(path, '{"uid":')
  t.not(tell(agent(), 'a'), kept, 'a file that cannot be read says nothing')
  t.end()
})
