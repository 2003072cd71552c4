import { mkdtemp, readdir, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { AgentStateFile } from '../../src/agent/agent-state.ts'
import { createTestAuthority } from '../fakes/authority.ts'

void t.test('what an agent is lies in one private file (spire-surface §2.2)', async t => {
  const folder = await mkdtemp(join(tmpdir(), 'assay-state-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  const path = join(folder, 'agent-data.json')
  const authority = await createTestAuthority('example.org')
  const { chain, privateKey } = await authority.issue('/spire/agent/join_token/a')
  const store = new AgentStateFile(path, authority.trustDomain)
  t.equal(await store.read(), undefined, 'nothing yet')
  await store.write({ chain, privateKey, canReattest: true, bundle: authority.bundle, cacheGeneration: 3 })
  t.match(await store.read(), { canReattest: true, cacheGeneration: 3, bundle: { trustDomain: 'example.org' } })
  t.equal((await stat(path)).mode & 0o777, 0o600)
  t.strictSame(await readdir(folder), ['agent-data.json'], 'nothing half-written is left')

  for (const [text, message] of [
    ['{"svid": [', /cannot be read/],
    ['{"svid": [], "private_key": "", "can_reattest": false, "bundle": ""}', /cannot be read/],
    [JSON.stringify({ svid: ['AAAA'], bundle: ['AAAA'], reattestable: true }), /is of SPIRE's agent, and is not read here/]
  ] as const) {
    await writeFile(path, text)
    await t.rejects(store.read(), { code: 'key_store_corrupt', message }, text)
  }
  await store.remove()
  t.equal(await store.read(), undefined)
})
