import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { commandTree } from '../../src/cli/command-tree.ts'
import { runCli } from '../../src/cli/run-cli.ts'
import { entryService } from '../../src/wire/generated/server-entry.ts'
import { startTestServer } from '../fakes/server.ts'
import { createTestTerminal } from '../fakes/terminal.ts'
import { idMessage } from '../interop/administrator.ts'

/** SPIRE's API is ours: a server of ours stands for SPIRE's. test/takeover/many.soak.ts has 10,000 entries, and kills. */
await t.test('who watches sees how far many entries are, batch by batch; nobody else is told', async t => {
  const folder = await mkdtemp(join(tmpdir(), 'assay-takeover-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  await using there = await startTestServer()
  await using ours = await startTestServer()
  const { results } = await there.admin.client(entryService).batchCreateEntry({
    entries: Array.from({ length: 450 }, (_, n) => ({
      id: `e-${n}`, spiffeId: idMessage(`spiffe://example.org/e-${n}`), parentId: idMessage('spiffe://example.org/node'),
      selectors: [{ type: 'unix', value: `uid:${n}` }]
    })),
    outputMask: {}
  })
  t.equal(results.filter(({ status }) => status?.code !== 0).length, 0)
  const words = ['-spireSocketPath', there.config.socketPath, '-socketPath', ours.config.socketPath]
  const run = async (interactive: boolean, file: string, ...verb: readonly string[]) => {
    const terminal = createTestTerminal({ interactive })
    t.equal(await runCli(commandTree, ['takeover', ...verb, ...words, '-state', join(folder, file)], terminal), 0, terminal.stderr)
    return terminal.stderr.split('\r\u001B[K').filter(line => line !== '')
  }
  t.same(await run(true, 'watched', 'start', '-settle', '0'),
    ['200 of 450 entries copied', '400 of 450 entries copied', '450 of 450 entries copied'])
  t.equal((await ours.admin.client(entryService).countEntries({})).count, 450)
  t.same(await run(true, 'watched', 'rollback'),
    ['200 of 450 entries removed', '400 of 450 entries removed', '450 of 450 entries removed'])
  t.same(await run(false, 'unwatched', 'start', '-settle', '0'), [])
  t.equal((await ours.admin.client(entryService).countEntries({})).count, 450)
})
