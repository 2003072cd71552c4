import t from 'tap'
import { rm } from 'node:fs/promises'
import { commandTree } from '../../src/cli/command-tree.ts'
import { runCli } from '../../src/cli/run-cli.ts'
import { bind } from '../../src/rpc/server.ts'
import { clusterService, type WatchConvergenceRequest } from '../../src/wire/generated/cluster.ts'
import { healthService } from '../../src/wire/generated/health.ts'
import { bundleService } from '../../src/wire/generated/server-bundle.ts'
import { entryService } from '../../src/wire/generated/server-entry.ts'
import { localAuthorityService } from '../../src/wire/generated/server-local-authority.ts'
import { eventually } from '../fakes/eventually.ts'
import { startFollowingAgent } from '../fakes/following-agent.ts'
import { runAssay } from '../fakes/run-assay.ts'
import { serveServices } from '../fakes/serve-services.ts'
import { startTestServer, type TestServer } from '../fakes/server.ts'
import { createTestTerminal } from '../fakes/terminal.ts'
import { waitLonger } from '../fakes/wait-longer.ts'

const webOf = (parent: string, uid = 1000) =>
  ['-spiffeID', 'spiffe://example.org/web', '-parentID', parent, '-selector', `unix:uid:${uid}`]
const shortWait = ['-wait', '-wait-timeout', '300ms']

function on ({ config }: Pick<TestServer, 'config'>) {
  return (...words: string[]) => runAssay([...words, '-socketPath', config.socketPath])
}

/** A command line that is still running, before somebody who watches it. */
function begin (words: readonly string[]) {
  const terminal = createTestTerminal({ interactive: true })
  return { terminal, code: runCli(commandTree, words, terminal) }
}

const json = (text: string) => JSON.parse(text) as Record<string, unknown>

void t.test('entry create, update and delete wait for the agents that are concerned, and for no others', async t => {
  await using server = await startTestServer()
  await using agent = await startFollowingAgent(server)
  await using other = await startFollowingAgent(server)
  const assay = on(server)
  const base = webOf(agent.spiffeId)

  const created = await assay('entry', 'create', ...base, '-entryID', 'web', '--wait')
  t.equal(created.code, 0)
  t.match(created.stdout, new RegExp(`^Entry ID +: web\n[^]*\n1 of 1 live agent has it after [\\dms]+\nacknowledged  ${agent.spiffeId}\n$`))
  t.equal(created.stderr, '', 'progress is for those who watch')

  other.mute()
  const updated = await assay('entry', 'update', ...base, '-entryID', 'web', '-hint', 'internal', '--wait', '-output', 'json')
  t.match(updated, { code: 0, stderr: '' }, 'the other agent is not waited for')
  t.match(json(updated.stdout), {
    results: [{ entry: { id: 'web' } }],
    convergence: {
      converged: true, cursor: { number: /^\d+$/ }, took_ms: Number, consumers: [{ agent_id: agent.spiffeId, state: 'acknowledged' }]
    }
  })

  agent.mute()
  const late = await assay('entry', 'update', ...base, '-entryID', 'web', ...shortWait)
  t.equal(late.code, 3)
  t.match(late.stdout, new RegExp(`^Entry ID +: web\n[^]*\n0 of 1 live agent have it after [\\dms]+\nwaiting       ${agent.spiffeId}\n$`))
  t.equal(late.stderr, `Error: after 300ms, 1 of 1 live agents does not have the change: ${agent.spiffeId} (waiting)\n` +
    '  code: not_converged; a retry may help\n  next: the change is made; see who lacks it with `assay status`\n')
  const lateJson = await assay('entry', 'update', ...base, '-entryID', 'web', ...shortWait, '-output', 'json')
  t.equal(lateJson.code, 3)
  t.match(json(lateJson.stdout), {
    results: [{ status: { code: 0 } }], convergence: { converged: false, consumers: [{ state: 'waiting' }] }
  })
  t.match(json(lateJson.stderr), { error: { code: 'not_converged' } })

  const { terminal, code } = begin(['entry', 'delete', '-entryID', 'web', '--wait', '-socketPath', server.config.socketPath])
  const missing = `0 of 1 live agent have it; waiting for ${agent.spiffeId.replace(/^.*\/agent\//, '').slice(0, 20)}`
  await eventually('progress names who is missing', () => terminal.stderr.includes(missing))
  agent.unmute()
  t.equal(await code, 0, 'it lost the entry, and is waited for all the same')
  t.match(terminal.stdout, new RegExp(`^Deleted entry with ID: web\n.*\n1 of 1 live agent has it[^]*acknowledged  ${agent.spiffeId}\n$`))
  t.ok(terminal.stderr.endsWith('\r\u001B[K'), 'the progress is wiped away')

  t.match(await assay('entry', 'create', ...webOf('spiffe://example.org/nobody'), '--wait'), {
    code: 0, stdout: /\nno live agent is concerned after [\dms]+\n$/
  })
})

void t.test('an agent that took an entry over but could not have its SVID does not have it', async t => {
  await using server = await startTestServer()
  await using agent = await startFollowingAgent(server)
  agent.setUnserved(['broken'])
  const assay = on(server)
  const base = webOf(agent.spiffeId)
  t.match(await assay('entry', 'create', ...base, '-entryID', 'broken', ...shortWait), { code: 3 })
  // Before the agent has said anything it is waited for as any other.
  const update = (...words: readonly string[]) => assay('entry', 'update', ...base, '-entryID', 'broken', '-wait', ...words)
  t.match(await waitLonger(update, /^acknowledged/m), {
    code: 3,
    stdout: new RegExp(`acknowledged  ${agent.spiffeId}  without an SVID for broken\n`),
    stderr: /does not have the change: [^ ]+ \(acknowledged, no SVID for broken\)\n/
  })
  const another = webOf(agent.spiffeId, 1001)
  t.match(await assay('entry', 'create', ...another, '-entryID', 'fine', '--wait'), { code: 0 }, 'other entries do not suffer from it')
  agent.setUnserved([])
  t.match(await assay('entry', 'delete', '-entryID', 'broken', '--wait'), { code: 0 })
})

void t.test('bundles and authorities concern every agent; whoever is banned or gone is not waited for', async t => {
  await using server = await startTestServer()
  await using one = await startFollowingAgent(server)
  await using two = await startFollowingAgent(server)
  const assay = on(server)
  const pem = (await assay('bundle', 'show')).stdout
  const set = (...more: readonly string[]) =>
    runAssay(['bundle', 'set', '-id', 'other.test', '-socketPath', server.config.socketPath, '--wait', ...more], { input: pem })
  t.match(await set(), {
    code: 0, stdout: /^bundle set\.\n2 of 2 live agents have it after [\dms]+\nacknowledged {2}.*\nacknowledged {2}.*\n$/
  })
  const remove = () => assay('bundle', 'delete', '-id', 'other.test', '--wait')
  t.match(await remove(), { code: 0, stdout: /^bundle deleted\.\n2 of 2 live agents/ })
  t.match(await remove(), { code: 1, stdout: '', stderr: /not found/ }, 'nothing to wait for')

  const prepared = JSON.parse((await assay('localauthority', 'x509', 'prepare', '--wait', '-output', 'json')).stdout) as {
    prepared_authority: { authority_id: string }, convergence: { converged: boolean, consumers: unknown[] }
  }
  t.match(prepared.convergence, { converged: true, consumers: [{ state: 'acknowledged' }, { state: 'acknowledged' }] })
  two.mute()
  const id = prepared.prepared_authority.authority_id
  t.match(await assay('localauthority', 'x509', 'activate', '-authorityID', id, '--wait'), { code: 0 }, 'what agents hold has not changed')
  const old = JSON.parse((await assay('localauthority', 'x509', 'show', '-output', 'json')).stdout) as { old: { authority_id: string } }
  const taint = await assay('localauthority', 'x509', 'taint', '-authorityID', old.old.authority_id, ...shortWait)
  t.match(taint, { code: 3, stdout: /^Tainted X\.509 authority:\n[^]*[01] of 2 live agents ha(s|ve) it/ })
  t.match(taint.stderr, new RegExp(`${two.spiffeId} \\(waiting\\)`))
  // The other one had no more than a moment for it.
  t.match(await waitLonger(set, /1 of 2 live agents has it/), {
    code: 3, stderr: new RegExp(`, 1 of 2 live agents does not have the change: ${two.spiffeId} \\(waiting\\)\n`)
  })
  await assay('agent', 'ban', '-spiffeID', two.spiffeId)
  t.match(await set(), { code: 0, stdout: new RegExp(`1 of 1 live agent has it after [\\dms]+\nacknowledged  ${one.spiffeId}\n$`) })
})

void t.test('a server that cannot be waited on is not told the change either', async t => {
  const made: string[] = []
  const make = (what: string) => async () => { made.push(what); return {} }
  const socket = await serveServices(t, [
    bind(entryService, { batchCreateEntry: make('create'), batchUpdateEntry: make('update'), batchDeleteEntry: make('delete') }),
    bind(bundleService, { batchSetFederatedBundle: make('set'), batchDeleteFederatedBundle: make('delete') }),
    bind(localAuthorityService, { prepareX509Authority: make('prepare'), taintJWTAuthority: make('taint') })
  ])
  const base = webOf('spiffe://example.org/node')
  for (const words of [
    ['entry', 'create', ...base], ['entry', 'update', ...base, '-entryID', 'e'], ['entry', 'delete', '-entryID', 'e'],
    ['bundle', 'delete', '-id', 'other.test'], ['localauthority', 'x509', 'prepare'],
    ['localauthority', 'jwt', 'taint', '-authorityID', 'a']
  ]) {
    const refused = await runAssay([...words, '--wait', '-socketPath', socket])
    t.match(refused, { code: 1, stdout: '', stderr: /code: cluster_api_missing; a retry does not help/ }, words.slice(0, 3).join(' '))
  }
  t.same(made, [])
  t.match(await runAssay(['entry', 'delete', '-entryID', 'e', '-socketPath', socket]), { code: 0 }, 'without -wait it is, as ever')
  t.same(made, ['delete'])
})

void t.test('many entries are asked about in parts, and an agent that lacks one of them lacks the change', async t => {
  const cursor = { epoch: 'e', number: 5n }
  const asked: WatchConvergenceRequest[] = []
  const socket = await serveServices(t, [
    bind(entryService, { batchDeleteEntry: async ({ ids }) => ({ results: ids.map(id => ({ id, status: { code: 0 } })) }) }),
    bind(clusterService, {
      getStatus: async () => ({ head: cursor }),
      async * watchConvergence (request) {
        asked.push(request)
        const converged = request.entryIds[0] !== 'e0'
        const state = converged ? 'inferred' : 'written'
        yield { cursor, converged, consumers: [{ agentId: 'a', state }, { agentId: 'b', state: 'timed' }] }
      }
    })
  ])
  const input = JSON.stringify({ ids: Array.from({ length: 2_500 }, (_, index) => `e${index}`) })
  const words = ['entry', 'delete', '-file', '-', ...shortWait, '-output', 'json', '-socketPath', socket]
  const { code, stdout } = await runAssay(words, { input })
  t.equal(code, 3)
  t.match((JSON.parse(stdout) as { convergence: unknown }).convergence, {
    converged: false, consumers: [{ agent_id: 'a', state: 'written' }, { agent_id: 'b', state: 'timed' }]
  })
  t.strictSame([...new Set(asked.map(({ entryIds }) => entryIds.length))], [1000, 500], 'no question is too long')
  t.match(asked.at(-1), { since: cursor, cursor, once: true, entryIds: { length: 500 } }, 'once the time is up, the rest is looked at once')
})

void t.test('of several servers one that answers is asked', async t => {
  await using server = await startTestServer()
  const dead = await serveServices(t, [])
  await rm(dead)
  const sockets = ['-socketPath', dead, '-socketPath', server.config.socketPath]
  const create = (uid: number, ...more: string[]) => runAssay(['entry', 'create', ...webOf('spiffe://example.org/node', uid), ...more])
  t.match(await runAssay(['server', 'status', ...sockets]), { code: 0, stdout: /Trust domain/ })
  t.match(await runAssay(['status', ...sockets]), { code: 0 })
  t.match(await create(1, ...sockets), { code: 0 }, 'a change is made once, where somebody answers')
  t.match(await create(2, '--wait', ...sockets), { code: 0 })
  t.match(await create(3, '-socketPath', dead, '-socketPath', dead), { code: 1, stderr: /code: server_unreachable/ })
  t.equal((await server.admin.client(entryService).countEntries({})).count, 2)
})

void t.test('a server that goes away during the wait: what is known is told, and where it stands', async t => {
  let asked = 0
  const socket = await serveServices(t, [
    bind(healthService, { check: async () => ({}) }),
    bind(entryService, { batchDeleteEntry: async ({ ids }) => ({ results: ids.map(id => ({ id })) }) }),
    bind(clusterService, {
      async getStatus () {
        if (++asked > 1) throw new Error('gone')
        return { head: { epoch: 'e', number: 5n } }
      }
    })
  ])
  const words = ['entry', 'delete', '-entryID', 'e', ...shortWait, '-output', 'json', '-socketPath', socket]
  const bug = await runAssay(words)
  t.equal(bug.code, 1, 'a server that fails in another way is not asked again')
  t.match(JSON.parse(bug.stdout), { results: [{ id: 'e' }], convergence: { converged: false, consumers: [] } })
  t.match(JSON.parse(bug.stderr), { error: { code: 'internal' } })

  const { terminal, code } = begin(['entry', 'delete', '-entryID', 'e', '--wait', '-output', 'json', '-socketPath', socket])
  asked = 0
  terminal.stop()
  t.equal(await code, 130, 'Ctrl-C ends it')
})
