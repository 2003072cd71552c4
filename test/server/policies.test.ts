import t from 'tap'
import { policyService } from '../../src/wire/generated/policy.ts'
import { entryService } from '../../src/wire/generated/server-entry.ts'
import { clusterService } from '../../src/wire/generated/cluster.ts'
import { attest, openServerChannel } from '../fakes/agent-client.ts'
import { applyPolicies } from '../fakes/apply-policies.ts'
import { eventually } from '../fakes/eventually.ts'
import { startFollowingAgent, type FollowingAgent } from '../fakes/following-agent.ts'
import { policyText, selectorPolicyText } from '../fakes/policies.ts'
import { postgresMissing, startPostgres } from '../fakes/postgres.ts'
import { startTestReplicas } from '../fakes/replicas.ts'
import { startTestServer, type TestServer } from '../fakes/server.ts'

const skip = postgresMissing()
const following = (server: TestServer) => startFollowingAgent(server, { policies: true })
const settings = (domain: string) => `{ apiVersion: assay/v1, kind: Settings, trustDomain: ${domain}, defaultAction: allow }`

/** What an agent knows after all it was told. */
function knownTo ({ told }: FollowingAgent) {
  let version = -1
  let texts: string[] = []
  let open = ''
  const selected = new Map<string, Set<string>>()
  for (const { policies } of told) {
    if (policies === undefined) continue
    if (policies.whole) {
      texts = []
      selected.clear()
    }
    version = Number(policies.version)
    for (const { text, more } of policies.documents) {
      open += text
      if (more) continue
      texts.push(open)
      open = ''
    }
    for (const { selectors, ids, removedIds } of policies.selected) {
      const known = selected.get(selectors.join()) ?? new Set()
      selected.set(selectors.join(), known.difference(new Set(removedIds)).union(new Set(ids)))
    }
  }
  return { version, texts, selected: Object.fromEntries([...selected].map(([key, ids]) => [key, [...ids].toSorted()])) }
}

async function versionsOf ({ admin }: TestServer): Promise<number[]> {
  const { versions } = await admin.client(policyService).listPolicyVersions({})
  return versions.map(({ number }) => Number(number))
}

async function documentsOf ({ admin }: TestServer, version = 0): Promise<string[]> {
  const texts: string[] = []
  for await (const { documents } of admin.client(policyService).getPolicies({ version })) texts.push(...documents.map(({ text }) => text))
  return texts
}

t.test('a set of policies is applied as a whole, remembered and rolled back', async t => {
  await using server = await startTestServer()
  const client = server.admin.client(policyService)
  await t.rejects(documentsOf(server), { code: 'policy_version_not_found', message: 'no policies were ever applied' })
  const first = await applyPolicies(server.admin, [policyText('a'), policyText('b')], { comment: 'the first' })
  t.match(first, {
    unchanged: false,
    version: {
      number: 1n, parent: 0n, appliedBy: `local uid ${process.getuid?.()}`, comment: 'the first', rules: 2, documents: 2,
      revision: /^[0-9a-f]{64}$/
    }
  })
  const same = await applyPolicies(server.admin, [policyText('a'), policyText('b')], { replaces: 1 })
  t.match(same, { unchanged: true, version: { number: 1n } })
  const preview = await applyPolicies(server.admin, [policyText('c')], { replaces: 1, dryRun: true })
  t.match(preview, { unchanged: false, version: { number: 2n, rules: 1 } })
  t.strictSame(await versionsOf(server), [1], 'a dry run writes nothing')
  await applyPolicies(server.admin, [policyText('c')], { replaces: 1 })
  t.strictSame(await documentsOf(server), [policyText('c')], 'nothing of the set before is left')
  t.match(await client.rollbackPolicies({ version: 1, replaces: 2 }), { version: { number: 3n, parent: 2n, comment: 'back to version 1' } })
  t.strictSame(await documentsOf(server), [policyText('a'), policyText('b')])
  t.strictSame(await documentsOf(server, 2), [policyText('c')])
  t.strictSame(await versionsOf(server), [3, 2, 1])
})

t.test('what is refused changes nothing', async t => {
  await using server = await startTestServer()
  const { admin } = server
  const client = admin.client(policyService)
  await applyPolicies(admin, [policyText('a')])
  await applyPolicies(admin, [policyText('b')], { replaces: 1 })
  const broken: [string, readonly string[], RegExp][] = [
    ['one broken document among good ones', [policyText('a'), 'kind: Policy\napiVersion: assay/v1\nname: x\n'], /1\.yaml/],
    ['Settings of another trust domain', [settings('other.test')], /^the Settings are of trust domain other\.test, and this is/],
    ['nothing', [], /there are no documents/],
    ['too many texts', Array.from({ length: 1_025 }, (_, n) => `# ${n}`), /there are 1025 texts, at most 1024/],
    ['too much text', ['#'.repeat(9 * 1_048_576)], /8388608 bytes/]
  ]
  for (const [what, texts, message] of broken) {
    await t.rejects(applyPolicies(admin, texts, { replaces: 2 }), { code: 'policy_malformed', message }, what)
  }
  const twice = [{ name: 'x', text: policyText('a') }, { name: 'x', text: policyText('b') }]
  await t.rejects(applyPolicies(admin, twice, { replaces: 2 }), { code: 'policy_malformed', message: /two texts have the name "x"/ })
  await t.rejects(applyPolicies(admin, [policyText('c')], { replaces: 1 }), { code: 'policy_conflict', message: /^version 2 of local uid/ })
  await t.rejects(applyPolicies(admin, [policyText('c')], { replaces: 1, dryRun: true }), { code: 'policy_conflict' })
  await t.rejects(applyPolicies(admin, [policyText('c')], { replaces: 2, comment: 'x'.repeat(1_001) }), { code: 'argument_invalid' })
  await t.rejects(client.rollbackPolicies({ version: 1, replaces: 1 }), { code: 'policy_conflict' })
  await t.rejects(client.rollbackPolicies({ version: 7, replaces: 2 }), { code: 'policy_version_not_found' })
  await t.rejects(client.rollbackPolicies({ replaces: 2 }), { code: 'argument_invalid' })
  await t.rejects(client.applyPolicies((async function * () {})()), { code: 'argument_invalid' })
  const half = [{ documents: [{ name: 'x', text: policyText('c'), more: true }], replaces: 2 }]
  const cutOff = client.applyPolicies((async function * () { yield * half })())
  await t.rejects(cutOff, { code: 'policy_malformed', message: /the rest of "x" is missing/ })
  t.strictSame(await versionsOf(server), [2, 1])
  t.strictSame(await documentsOf(server), [policyText('b')])
  t.match(await applyPolicies(admin, [settings('example.org')], { replaces: 2 }), { version: { number: 3n, rules: 0 } }, 'its own Settings')
})

t.test('policies are for operators', async t => {
  await using server = await startTestServer()
  await using channel = openServerChannel(server, await attest(server))
  await using anonymous = openServerChannel(server)
  for (const caller of [channel, anonymous]) {
    const client = caller.client(policyService)
    await t.rejects(applyPolicies(caller, [policyText('a')]), /authorization denied for method/)
    await t.rejects(client.listPolicyVersions({}), /authorization denied for method/)
    await t.rejects(client.rollbackPolicies({ version: 1 }), /authorization denied for method/)
    await t.rejects((async () => { for await (const _ of client.getPolicies({})) t.fail('a page') })(), /authorization denied for method/)
  }
})

t.test('agents that follow policies are told of them, and of whom their selectors mean', async t => {
  await using server = await startTestServer()
  await using agent = await following(server)
  await using plain = await startFollowingAgent(server)
  t.strictSame(knownTo(agent), { version: 0, texts: [], selected: {} }, 'that there are none is told too')
  const entryOf = (path: string, ...values: string[]) => ({
    spiffeId: { trustDomain: 'example.org', path }, parentId: plain.id, selectors: values.map(value => ({ type: 'unix', value }))
  })
  const entries = server.admin.client(entryService)
  const { results } = await entries.batchCreateEntry({
    entries: [entryOf('/one', 'uid:1'), entryOf('/both', 'uid:1', 'gid:1'), entryOf('/one', 'uid:1', 'gid:2'), entryOf('/other', 'uid:2')]
  })
  const set = [selectorPolicyText('a', 'unix:uid:1'), policyText('b')]
  await applyPolicies(server.admin, set)
  const ids = (...paths: string[]) => paths.map(path => `spiffe://example.org${path}`)
  await eventually('they have come', () => knownTo(agent).version === 1 && agent.told.at(-1)?.more === false)
  t.strictSame(knownTo(agent), { version: 1, texts: set, selected: { 'unix:uid:1': ids('/both', '/one') } })
  const wholes = () => agent.told.filter(({ policies }) => policies?.whole === true).length
  const before = wholes()

  await entries.batchDeleteEntry({ ids: [results[0]?.entry?.id ?? ''] })
  await entries.batchCreateEntry({ entries: [entryOf('/later', 'uid:1', 'gid:7'), entryOf('/never', 'uid:3')] })
  await eventually('one has joined', () => knownTo(agent).selected['unix:uid:1']?.length === 3)
  t.strictSame(knownTo(agent).selected, { 'unix:uid:1': ids('/both', '/later', '/one') }, 'whose other entry went is still there')
  await entries.batchDeleteEntry({ ids: [results[2]?.entry?.id ?? ''] })
  await eventually('one has left', () => knownTo(agent).selected['unix:uid:1']?.length === 2)
  t.equal(wholes(), before, 'the documents are not sent again')
  t.ok(plain.told.every(({ policies }) => policies === undefined), 'who did not ask is told nothing')

  await using late = await following(server)
  await eventually('the whole state has come', () => late.told.at(-1)?.more === false)
  t.strictSame(knownTo(late), knownTo(agent), 'to one that comes later as well')
  const told = agent.told.length
  await agent.moveTo(server)
  await applyPolicies(server.admin, [policyText('c')], { replaces: 1 })
  await eventually('the next version has come', () => knownTo(agent).version === 2)
  t.notOk(agent.told.slice(told).some(({ policies }) => policies?.version === 1n), 'who comes back is not told again what it has')
})

t.test('eight megabytes of policies come in messages that any client takes', async t => {
  await using server = await startTestServer()
  const comment = '# \u{1F600} 0123456789 0123456789 0123456789 0123456789 0123456789 0123456789 0123456789\n'
  const long = JSON.stringify({ apiVersion: 'assay/v1', kind: 'Policy', name: 'long', rules: Array.from({ length: 7 }, (_, n) =>
    ({ name: `r${n}`, action: 'deny', from: [{ requestPrincipals: Array.from({ length: 550 }, (_, m) => `${m}ä`.repeat(200)) }] })) })
  const texts = [long, policyText('b'), comment.repeat(40_000), policyText('c')]
  await applyPolicies(server.admin, texts)
  await using agent = await following(server)
  await eventually('all has come', () => agent.told.at(-1)?.more === false && knownTo(agent).version === 1, 60_000)
  t.strictSame(knownTo(agent).texts, texts)
  const parts = agent.told.flatMap(({ policies }) => policies === undefined ? [] : [policies])
  t.ok(parts.length > 8)
  t.ok(parts.every(({ documents }) => documents.reduce((sum, { text }) => sum + Buffer.byteLength(text), 0) < 2 * 1_048_576))
})

t.test('what an agent cannot serve is known, and waited for', async t => {
  await using server = await startTestServer()
  await using agent = await following(server)
  await using plain = await startFollowingAgent(server)
  const consumers = async () => {
    let last
    for await (const step of server.admin.client(clusterService).watchConvergence({ policies: true, once: true })) last = step
    return last?.consumers.map(({ agentId, policies }) => ({ agentId, ...policies }))
  }
  await applyPolicies(server.admin, [policyText('a')])
  await eventually('it says that it serves them', async () => (await consumers())?.[0]?.version === 1n)
  t.match(await consumers(), [{ agentId: agent.spiffeId, version: 1n, refusal: '' }], 'only who follows policies is asked')
  agent.refusePolicies('of a newer form')
  await applyPolicies(server.admin, [policyText('b')], { replaces: 1 })
  await eventually('it says that it does not', async () => (await consumers())?.[0]?.refusal === 'of a newer form')
  t.match(await consumers(), [{ version: 1n, refusal: 'of a newer form' }])
  t.ok(plain.told.length > 0)
})

t.test('two replicas and one more', { skip }, async t => {
  await using postgres = await startPostgres()
  await using replicas = await startTestReplicas(await postgres.createSchema(), 2)
  const [here, there] = replicas.servers as [TestServer, TestServer]
  await using agent = await following(there)
  await applyPolicies(here.admin, [selectorPolicyText('a', 'unix:uid:1')])
  await eventually('it reaches the other replica\'s agent', () => knownTo(agent).version === 1)
  const race = await Promise.allSettled([here, there].map(({ admin }, n) =>
    applyPolicies(admin, [policyText(`race-${n}`)], { replaces: 1 })))
  t.strictSame(race.map(({ status }) => status).toSorted((a, b) => a < b ? -1 : 1), ['fulfilled', 'rejected'])
  t.match(race.find(({ status }) => status === 'rejected'), { reason: { code: 'policy_conflict' } })
  await eventually('one of them is active', () => knownTo(agent).version === 2)
  await using fresh = await replicas.start()
  await agent.moveTo(fresh)
  await applyPolicies(here.admin, [policyText('last')], { replaces: 2 })
  await eventually('a new replica tells it too', () => knownTo(agent).version === 3)
  t.strictSame(knownTo(agent), { version: 3, texts: [policyText('last')], selected: {} })
})
