import { chmod, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { commandTree } from '../../src/cli/command-tree.ts'
import { runCli } from '../../src/cli/run-cli.ts'
import { bundleService } from '../../src/wire/generated/server-bundle.ts'
import { eventually } from '../fakes/eventually.ts'
import { startFollowingAgent } from '../fakes/following-agent.ts'
import { postgresMissing, startPostgres } from '../fakes/postgres.ts'
import { startServer } from '../fakes/processes.ts'
import { databaseKeys } from '../fakes/replicas.ts'
import { runAssay } from '../fakes/run-assay.ts'
import { startTestServer } from '../fakes/server.ts'
import { createTestTerminal } from '../fakes/terminal.ts'

const skip = postgresMissing()
const entry = (parent: string, id: string) =>
  ['-entryID', id, '-spiffeID', `spiffe://example.org/${id}`, '-parentID', parent, '-selector', 'unix:uid:1000']

await t.test('a wait survives kill -9 of the replica that was asked', { skip }, async t => {
  await using postgres = await startPostgres()
  const datastoreUrl = await postgres.createSchema()
  await using asked = await startServer({ config: { datastore_url: datastoreUrl } })
  await using other = await startTestServer({ config: { datastoreUrl } })
  await using agent = await startFollowingAgent(other)
  const sockets = ['-socketPath', asked.adminSocket, '-socketPath', other.config.socketPath]
  t.match(await runAssay(['entry', 'create', ...entry(agent.spiffeId, 'gone'), '--wait', ...sockets]), { code: 0 })

  agent.mute()
  for (const words of [['create', ...entry(agent.spiffeId, 'web')], ['delete', '-entryID', 'gone']]) {
    const terminal = createTestTerminal({ interactive: true })
    const code = runCli(commandTree, ['entry', ...words, '--wait', ...sockets], terminal)
    await eventually('the replica was asked, and the agent does not have it', () => terminal.stderr.includes('waiting for'))
    if (words[0] === 'create') await asked.kill9()
    agent.unmute()
    t.equal(await code, 0, words.join(' '))
    t.match(terminal.stdout, new RegExp(`1 of 1 live agent has it after [\\dms]+\nacknowledged  ${agent.spiffeId}\n$`))
    agent.mute()
  }
})

await t.test('a replica that remembers nothing of a change does not take it for taken over', { skip }, async t => {
  await using postgres = await startPostgres()
  const datastoreUrl = await postgres.createSchema()
  const folder = await mkdtemp(join(tmpdir(), 'assay-late-'))
  t.teardown(() => rm(folder, { recursive: true }))
  const sockets = ['-socketPath', join(folder, 'first.sock'), '-socketPath', join(folder, 'late.sock')]
  const first = await startTestServer({ config: { datastoreUrl, socketPath: join(folder, 'first.sock') } })
  await using agent = await startFollowingAgent(first)
  t.match(await runAssay(['entry', 'create', ...entry(agent.spiffeId, 'web'), '--wait', ...sockets]), { code: 0 })
  agent.mute()
  const terminal = createTestTerminal({ interactive: true })
  const code = runCli(commandTree, ['entry', 'delete', '-entryID', 'web', '--wait', ...sockets], terminal)
  await eventually('the wait began', () => terminal.stderr.includes('waiting for'))
  // Starts after the entry has gone, and so cannot know whom it concerned.
  await using late = await startTestServer({ config: { datastoreUrl, socketPath: join(folder, 'late.sock') } })
  const shown = terminal.stderr.length
  await first[Symbol.asyncDispose]()
  await eventually('the other replica was asked', () => terminal.stderr.slice(shown).includes('waiting for'))
  agent.unmute()
  await agent.moveTo(late)
  t.equal(await code, 0)
  t.match(terminal.stdout, new RegExp(`acknowledged  ${agent.spiffeId}\n$`))
})

await t.test('a rotation survives kill -9 of the replica that makes it', { skip }, async t => {
  await using postgres = await startPostgres()
  const datastoreUrl = await postgres.createSchema()
  const keyFile = join(t.testdir({ kek: 'ab'.repeat(32) }), 'kek')
  await chmod(keyFile, 0o600)
  const database = { plugin_data: { key_encryption_key_file: keyFile } }
  await using asked = await startServer({ config: { datastore_url: datastoreUrl }, blocks: { plugins: { KeyManager: { database } } } })
  await using other = await startTestServer({ config: { datastoreUrl, ...databaseKeys(keyFile) } })
  await using agent = await startFollowingAgent(other)
  agent.muteWhen(({ bundles }) => bundles.some(({ x509Authorities }) => x509Authorities.length === 2))
  const terminal = createTestTerminal({ interactive: true })
  const words = ['rotate', '-compromised', 'x509', '-socketPath', asked.adminSocket, '-socketPath', other.config.socketPath]
  const code = runCli(commandTree, words, terminal)
  await eventually('the first step is made, and not everybody has it', () => terminal.stderr.includes('waiting for'))
  await asked.kill9()
  agent.unmute()
  t.equal(await code, 0)
  t.match(terminal.stdout, /\nprepare [^]*\nactivate [^]*\ntaint [^]*\nrevoke .* 1 of 1 live agent has it[^]*\nDone/)
  t.match(await other.admin.client(bundleService).getBundle({}), { x509Authorities: [{ tainted: false }] })
})
