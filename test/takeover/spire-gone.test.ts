import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { readJournal } from '../../src/takeover/journal.ts'
import { placeSeen, seenAgent } from '../../src/takeover/seen-agents.ts'
import { parseCertificate } from '../../src/x509/certificate.ts'
import { attestOver, createJoinToken, openServerChannel } from '../fakes/agent-client.ts'
import { runAssay } from '../fakes/run-assay.ts'
import { startTestServer, type TestServer } from '../fakes/server.ts'
import { entry, Side } from './side.ts'

t.setTimeout(120_000)
const folder = await mkdtemp(join(tmpdir(), 'assay-takeover-'))
t.teardown(() => rm(folder, { recursive: true, force: true }))
let files = 0

interface Told {
  readonly phase: string
  readonly spire_gone_at?: string
  readonly entries: { readonly copied: number, readonly missing: readonly string[], readonly own: number }
  readonly spire_authorities: ReadonlyArray<{ readonly kind: string, readonly ends_at: string }>
  readonly last_known_svid: { readonly ends_at?: string, readonly days?: number }
  readonly last_possible_svid: { readonly ends_at: string, readonly days: number }
  readonly agents_known: boolean
  readonly agents: ReadonlyArray<{ readonly id: string, readonly place: string, readonly expires_at: string }>
  readonly findings: ReadonlyArray<{ readonly kind: string, readonly code: string, readonly about: string, readonly next: string }>
}

/** A takeover by command line from a server of ours that stands for SPIRE's, and burns. */
async function begun (scope: AsyncDisposableStack, { settle = '0' }: { readonly settle?: string } = {}) {
  const [there, ours] = [scope.use(await startTestServer()), scope.use(await startTestServer())]
  const file = join(folder, `state-${++files}.json`)
  const words = ['-spireSocketPath', there.config.socketPath, '-socketPath', ours.config.socketPath, '-state', file]
  const assay = (...command: readonly string[]) => runAssay(['takeover', ...command, ...words])
  const spires = scope.use(new Side({ adminSocket: there.config.socketPath }))
  const own = scope.use(new Side({ adminSocket: ours.config.socketPath }))
  await spires.fill()
  const token = await createJoinToken(there)
  const joinAt = async (server: TestServer) => {
    await using channel = openServerChannel(server)
    const { chain: [leaf] } = await attestOver(channel, token)
    return parseCertificate(leaf as Uint8Array).uriSans
  }
  const agentId = `spiffe://example.org/spire/agent/join_token/${token}`
  t.same(await joinAt(there), [agentId])
  const start = () => assay('start', '-settle', settle)
  const told = async (...command: readonly string[]) => {
    const { code, stdout, stderr } = await assay(...command, '-output', 'json')
    return { code, stderr, told: JSON.parse(stdout === '' ? '{}' : stdout) as Told }
  }
  return { there, ours, own, spires, file, assay, start, told, token, agentId, joinAt }
}

const codesOf = ({ findings }: Told, kind: string) => findings.filter(one => one.kind === kind).map(({ code }) => code)

await t.test('SPIRE\'s server is gone for good while agents are left there', async t => {
  await using scope = new AsyncDisposableStack()
  const { there, ours, own, file, assay, start, told, token, agentId, joinAt } = await begun(scope)
  await own.add(entry('own', { selectors: [{ type: 'unix', value: 'uid:7' }] }))
  t.match(await assay('plan', '-spireGone'), { code: 1, stderr: /takeover_unknown/ }, 'without a journal nothing is known')
  t.equal((await start()).code, 0)

  await t.test('while it answers nothing is done as if it did not, not even by force', async t => {
    const before = await readFile(file, 'utf8')
    const plan = await told('plan', '-spireGone')
    t.equal(plan.code, 4)
    t.same(codesOf(plan.told, 'blocks'), ['spire-answers'])
    t.match(await assay('finish', '-spireGone', '-force'), { code: 4, stderr: /takeover_blocked/ })
    t.match(await assay('token', '-spireGone', agentId), { code: 4, stderr: /spire-answers/ })
    t.equal(await readFile(file, 'utf8'), before)
  })

  await there[Symbol.asyncDispose]()
  await t.test('a command without the flag says which server is away, and where to read on', async t => {
    for (const command of [['status'], ['rollback']]) {
      t.match(await assay(...command),
        { code: 1, stderr: /cannot reach the SPIRE server[\s\S]*-spireGone[\s\S]*server_unreachable/ }, command.join(' '))
    }
  })

  await t.test('the plan tells what can be told by our server and the journal, and changes nothing', async t => {
    const before = [await readFile(file, 'utf8'), await own.contents()]
    const plan = await told('plan', '-spireGone')
    t.equal(plan.code, 0)
    t.same(plan.told.entries, { copied: 2, missing: [], own: 1 })
    t.match(plan.told.agents, [{ id: agentId, place: 'there' }])
    t.equal(plan.told.last_known_svid.ends_at, plan.told.agents[0]?.expires_at)
    t.same(plan.told.spire_authorities.map(({ kind }) => kind), ['x509', 'jwt'])
    t.same(codesOf(plan.told, 'blocks'), [])
    t.same(codesOf(plan.told, 'lost'), ['unseen-changes', 'no-way-back', 'renews-no-more'])
    t.same(codesOf(plan.told, 'by-hand'), ['spire-authority', 'spire-authority', 'bundle-endpoint', 'join-tokens'])
    const ends = plan.told.spire_authorities.map(({ ends_at }) => ends_at).toSorted()
    t.equal(plan.told.last_possible_svid.ends_at, ends.at(-1), 'what SPIRE signed outlives none of its authorities')
    t.match((await assay('plan', '-spireGone')).stdout, /x renews-no-more .*join_token[\s\S]*Next: move 1 agent .*finish -spireGone/)
    t.match(await assay('status', '-spireGone'), { code: 3 })
    t.same([await readFile(file, 'utf8'), await own.contents()], before)
  })

  await t.test('there is no way back, and a refusal says why and what to do', async t => {
    for (const command of [['rollback', '-force'], ['token', '-at', 'spire', agentId]]) {
      t.match(await assay(...command, '-spireGone'), {
        code: 1, stderr: /takeover_spire_gone; a retry does not help\n {2}next: see `assay takeover status -spireGone`/
      })
      t.match((await assay(...command, '-spireGone')).stderr, /Restore SPIRE's server .*or end it here: assay takeover finish -spireGone/)
    }
    t.equal((await own.contents()).length, 3, 'nothing was taken away')
  })

  await t.test('the end is refused while an agent is left, who is named, with the plan before', async t => {
    const refused = await assay('finish', '-spireGone')
    t.match(refused, { code: 4, stdout: /renews-no-more/, stderr: new RegExp(`${agentId}\\n {2}code: takeover_agents_left`) })
    const json = await told('finish', '-spireGone')
    t.equal(json.code, 4)
    t.equal(json.told.phase, 'open', 'one document, of what is so')
    t.match(json.stderr, /takeover_agents_left/)
    t.equal((await readJournal(file))?.phase, 'open')
  })

  await t.test('an agent that joined by a token moves with it made anew; one that SPIRE did not have does not', async t => {
    t.match(await assay('token', '-spireGone', 'spiffe://example.org/spire/agent/join_token/nobody'), { code: 1, stderr: /agent_not_found/ })
    t.same(await assay('token', '-spireGone', agentId), { code: 0, stdout: `Token: ${token}\n`, stderr: '' })
    t.same(await joinAt(ours), [agentId])
  })

  await t.test('by force it ends; partners see a newer number, and agents that are left may still move', async t => {
    const sequence = async () => (await own.bundles.getBundle({})).sequenceNumber
    const [before, contents] = [await sequence(), await own.contents()]
    const ended = await told('finish', '-spireGone', '-force')
    t.match(ended, { code: 0, stderr: '', told: { phase: 'finished', spire_gone: true } })
    t.ok(ended.told.spire_gone_at)
    t.ok(await sequence() > before + 500n, `${await sequence()}`)
    t.same(await own.contents(), contents, 'nothing of what was copied is touched')
    t.equal((await own.bundles.getBundle({})).x509Authorities.length, 2, 'what SPIRE signed is verified on')
    t.match(await assay('finish', '-spireGone'), { code: 1, stderr: /takeover_over/ })
    t.same(await assay('token', agentId), { code: 0, stdout: `Token: ${token}\n`, stderr: '' }, 'the state file knows')
    t.match(await assay('status'), { code: 0, stdout: /finished without SPIRE's server/ })
    await own.unregister('db')
    t.same(codesOf((await told('status')).told, 'lost').filter(code => code === 'entry-missing'), [], 'who removes one now means it')
  })

  await t.test('whatever needs SPIRE says that it is over, also when a server is there again', async t => {
    await using again = await startTestServer()
    for (const socket of [there.config.socketPath, again.config.socketPath]) {
      for (const command of [['run'], ['rollback', '-force']]) {
        t.match(await runAssay(['takeover', ...command, '-spireSocketPath', socket, '-socketPath', ours.config.socketPath, '-state', file]),
          { code: 1, stderr: /a SPIRE server that comes back is to be stopped\n {2}code: takeover_spire_gone/ }, command.join(' '))
      }
    }
    const { stdout, code } = await runAssay(
      ['takeover', 'status', '-spireSocketPath', again.config.socketPath, '-socketPath', ours.config.socketPath, '-state', file])
    t.equal(code, 0)
    t.match(stdout, /- spire-answers [\s\S]*stop it/)
  })
})

await t.test('gone before agents could move: SPIRE\'s entries are not here, and it says so', async t => {
  await using scope = new AsyncDisposableStack()
  const { there, own, file, assay, start, told, agentId } = await begun(scope, { settle: '3600' })
  t.equal((await start()).code, 0)
  await there[Symbol.asyncDispose]()
  t.same(codesOf((await told('plan', '-spireGone')).told, 'blocks'), ['entries-not-copied'])
  t.match(await assay('status', '-spireGone'), { code: 4 })
  t.match(await assay('finish', '-spireGone'), { code: 4, stderr: /entries-not-copied/ })
  t.match(await assay('token', '-spireGone', agentId), { code: 4, stderr: /entries-not-copied/ }, 'it would get nothing')
  t.equal((await readJournal(file))?.phase, 'publishing')
  await own.add(entry('made-anew'))
  t.match(await assay('finish', '-spireGone', '-force'), { code: 0 })
  t.match(await assay('token', agentId), { code: 0 })
})

await t.test('a state file of an earlier build knows no agents: it says so, and goes by who asks', async t => {
  await using scope = new AsyncDisposableStack()
  const { there, file, assay, start, told, agentId, token } = await begun(scope)
  t.equal((await start()).code, 0)
  const { agents: _agents, ...rest } = JSON.parse(await readFile(file, 'utf8')) as Record<string, unknown>
  await writeFile(file, JSON.stringify(rest))
  await there[Symbol.asyncDispose]()
  const plan = await told('plan', '-spireGone')
  t.match(plan, { code: 0, told: { agents_known: false, agents: [] } })
  t.ok(codesOf(plan.told, 'lost').includes('agents-unknown'))
  t.match(await assay('token', '-spireGone', agentId), { code: 0, stdout: `Token: ${token}\n` })
})

t.test('where an agent is without SPIRE\'s server', t => {
  const [seenAt, at] = [new Date('2026-01-01T00:00:00Z'), new Date('2026-01-02T00:00:00Z')]
  const place = (expiresAt: string, { banned = false, isHere = false, lastPossibleEnd = new Date('2026-02-01T00:00:00Z') } = {}) => {
    const seen = seenAgent({
      id: 'a', attestationType: 'x509pop', place: banned ? 'banned' : 'there', expiresAt: new Date(expiresAt), how: 'attests-alike',
      obstacles: [], downstream: []
    })
    return placeSeen(seen, { here: new Set(isHere ? ['a'] : []), seenAt, lastPossibleEnd, at }).place
  }
  t.equal(place('2026-01-03T00:00:00Z'), 'there')
  t.equal(place('2026-01-01T12:00:00Z'), 'there', 'it may have renewed after SPIRE was last seen')
  t.equal(place('2025-12-31T00:00:00Z'), 'gone', 'it had ended when SPIRE was last seen')
  t.equal(place('2026-01-03T00:00:00Z', { lastPossibleEnd: at }), 'gone', 'nothing that SPIRE signed is valid')
  t.equal(place('2026-01-03T00:00:00Z', { isHere: true }), 'here')
  t.equal(place('2026-01-03T00:00:00Z', { isHere: true, banned: true }), 'banned')
  t.end()
})
