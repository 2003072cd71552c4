import { readlinkSync, statSync } from 'node:fs'
import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { pinNetns } from '../../src/mesh/workloads/netns-pin.ts'

void t.test('an agent that is replaced leaves the links of its successor alone', async t => {
  const folder = await mkdtemp(join(tmpdir(), 'assay-pins-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  const own = '/proc/self/ns/net'
  const before = pinNetns(folder, own, 'a')
  const after = pinNetns(folder, own, 'a')
  t.equal(after?.path, before?.path, 'the proxy finds the namespace by one path, whoever holds it')
  const target = readlinkSync(after?.path ?? '')
  before?.[Symbol.dispose]()
  t.equal(readlinkSync(after?.path ?? ''), target)
  t.equal(statSync(after?.path ?? '').ino, statSync(own).ino, 'and it leads there still')
  after?.[Symbol.dispose]()
  t.same(await readdir(folder), [], 'whose own link it is takes it away')
})
