import t from 'tap'
import { ourAttestors } from '../../src/cli/takeover/our-attestors.ts'
import { mostRaisedSequence } from '../../src/spiffe/bundle-change.ts'
import type { DomainState } from '../../src/takeover/domain-state.ts'
import { planTakeover, type PlanContext } from '../../src/takeover/plan.ts'
import { decodeMessage } from '../../src/wire/decode-message.ts'
import { encodeMessage } from '../../src/wire/encode-message.ts'
import { Agent, Entry, type AgentInit, type EntryInit } from '../../src/wire/generated/types.ts'
import { createTestAuthority } from '../fakes/authority.ts'
import { idMessage } from '../interop/administrator.ts'

const attestors = await ourAttestors()
const none = { x509: [], jwt: [] }
const at = new Date()
const soon = Math.floor(at.getTime() / 1_000) + 3_600
const domain = 'spiffe://example.org'
const [{ bundle: spires }, { bundle: own }, { bundle: below }] = await Promise.all(
  ['a', 'b', 'c'].map(jwtKeyId => createTestAuthority('example.org', { jwtKeyId })) as [
    ReturnType<typeof createTestAuthority>, ReturnType<typeof createTestAuthority>, ReturnType<typeof createTestAuthority>])
const foreignSelectors = [{ type: 'windows', value: 'user_name:a' }]

function entry (id: string, parent: string, rest: EntryInit = {}) {
  const init = { id, spiffeId: idMessage(`${domain}/${id}`), parentId: idMessage(`${domain}${parent}`), ...rest }
  return decodeMessage(Entry, encodeMessage(Entry, { selectors: [{ type: 'k8s', value: 'sa:web' }], ...init }))
}

function agent (path: string, rest: AgentInit = {}) {
  return decodeMessage(Agent, encodeMessage(Agent, {
    id: idMessage(`${domain}/spire/agent${path}`), attestationType: path.split('/')[1], x509svidExpiresAt: soon, ...rest
  }))
}

const psat = (...values: readonly string[]) => ({ selectors: values.map(value => ({ type: 'k8s_psat', value })) })
const state = (bundle: DomainState['bundle'], rest: Partial<DomainState> = {}): DomainState => ({
  bundle, entries: [], relationships: [], federatedBundles: [], agents: [], active: { x509: bundle === own ? 'b' : 'a', jwt: '' }, ...rest
})
const plan = (there: Partial<DomainState>, { ours = {}, ...context }: Partial<PlanContext> & { ours?: Partial<DomainState> } = {}) =>
  planTakeover(state(spires, there), state(own, ours), { journal: undefined, here: new Set(), attestors, at, ...context })
const codesOf = ({ findings }: ReturnType<typeof plan>) => findings.map(({ code, about }) => `${code} ${about}`)

await t.test('what the plan says that our agents and servers attest by is what they have', t => {
  t.ok(['unix', 'k8s'].every(name => attestors.workload.has(name)))
  t.ok(['join_token', 'x509pop', 'k8s_psat'].every(name => attestors.node.has(name)), 'of agents and of servers')
  for (const name of attestors.node) {
    const { agents: [move], findings } = plan({ agents: [agent(`/${name}/x`)] })
    t.equal(move?.how, name === 'join_token' ? 'same-token' : 'attests-alike', name)
    t.equal(findings.some(({ code }) => code === 'attestor-missing'), false)
  }
  t.ok(codesOf(plan({ agents: [agent('/aws_iid/x')] })).includes(`attestor-missing ${domain}/spire/agent/aws_iid/x`))
  t.end()
})

await t.test('a ban at SPIRE is told of where the node could attest here all the same', t => {
  const banned = (path: string) => agent(path, { banned: true })
  const told = (ours: Agent[]) => codesOf(plan({
    agents: [banned('/x509pop/a'), banned('/join_token/b'), banned('/aws_iid/c'), agent('/x509pop/d')]
  }, { ours: { agents: ours } })).filter(code => code.startsWith('ban-not-copied'))
  t.strictSame(told([agent('/x509pop/a')]), [`ban-not-copied ${domain}/spire/agent/x509pop/a`],
    'not of one whose token is not here, nor of one that could not attest')
  t.strictSame(told([banned('/x509pop/a')]), [], 'nor of one that is banned here, too')
  t.end()
})

await t.test('an agent by k8s_psat keeps its ID, and entries below its ID and below aliases of its cluster', t => {
  const node = '/k8s_psat/prod/2e6a5d9c-node'
  const agents = [agent(node, psat('cluster:prod', 'agent_ns:spire', 'agent_node_name:worker-1'))]
  const entries = [
    entry('by-node', `/spire/agent${node}`),
    entry('cluster', '/spire/server', psat('cluster:prod', 'agent_ns:spire')),
    entry('by-cluster', '/cluster'),
    entry('others', '/spire/server', psat('cluster:staging')),
    entry('elsewhere', '/others', { selectors: foreignSelectors })
  ]
  const quiet = plan({ agents, entries })
  t.match(quiet.agents, [{ id: `${domain}/spire/agent${node}`, how: 'attests-alike', place: 'there', obstacles: [] }])
  t.equal(quiet.entries.create.length, 5, 'aliases are copied like all entries')
  const foreign = [...entries, entry('vm', '/cluster', { selectors: foreignSelectors })]
  t.match(plan({ agents, entries: foreign }).agents[0]?.obstacles, [/entry vm .*windows/], 'what lies below its alias counts')
  t.match(plan({ agents, entries: foreign }, { here: new Set([`${domain}/spire/agent${node}`]) }).agents, [{ place: 'here' }])
  t.end()
})

await t.test('called by its pod, it gets another ID: entries below aliases are its own, those below that ID are not', t => {
  const pod = '/k8s_psat/prod/pod/0f3c'
  const agents = [agent(pod, psat('cluster:prod'))]
  const alias = [entry('cluster', '/spire/server', psat('cluster:prod')), entry('by-cluster', '/cluster')]
  t.match(plan({ agents, entries: alias }).agents, [{ how: 'by-alias', obstacles: [] }])
  const bound = plan({ agents, entries: [...alias, entry('by-pod', `/spire/agent${pod}`)] }).agents[0]?.obstacles
  t.match(bound, [/entry by-pod is below the ID of its pod/])
  t.equal(bound?.length, 1)
  // Our agent, in a pod of its own.
  const ours = {
    agents: [agent('/k8s_psat/prod/pod/7777', psat('cluster:prod')), agent('/k8s_psat/staging/pod/8', psat('cluster:staging'))]
  }
  const here = new Set(ours.agents.map(({ id }) => `${domain}${id?.path}`))
  t.same(plan({ agents, entries: alias }, { ours, here }).agents.map(({ id, place }) => [id.slice(-8), place]),
    [['pod/0f3c', 'there'], ['pod/7777', 'here']], 'one that has nothing of SPIRE\'s is no matter of the takeover')
  t.end()
})

await t.test('a server below: its entry is copied, its JWT key too, and whoever runs it is told', t => {
  const node = '/x509pop/abc'
  const entries = [entry('site', `/spire/agent${node}`, { downstream: true, selectors: [{ type: 'unix', value: 'uid:0' }] })]
  const jwtAuthorities = [...spires.jwtAuthorities, ...below.jwtAuthorities]
  const found = planTakeover(state({ ...spires, jwtAuthorities }, { entries, agents: [agent(node)] }), state(own),
    { journal: undefined, here: new Set(), attestors, at })
  t.match(found.entries.create, [{ id: 'site', downstream: true }], 'it may ask our server for a CA as it asks SPIRE\'s')
  t.same(found.authorities.toHere.jwt.map(({ keyId }) => keyId).toSorted(),
    [...spires.jwtAuthorities, ...below.jwtAuthorities].map(({ keyId }) => keyId).toSorted(), 'what it signs is verified here')
  t.ok(codesOf(found).includes(`server-below ${domain}/site`))
  t.equal(found.findings.some(({ kind }) => kind === 'blocks'), false)
  t.match(found.agents, [{ how: 'attests-alike', obstacles: [], downstream: ['site'] }])
  t.end()
})

await t.test('of a server below the plan says what breaks where it has the wrong address', t => {
  const node = '/x509pop/abc'
  const there = {
    agents: [agent(node)],
    entries: [
      entry('site', '/nodes', { downstream: true }), entry('nodes', '/spire/server', { selectors: [{ type: 'x509pop', value: 'a' }] })
    ]
  }
  const withAlias = { ...there, agents: [agent(node, { selectors: [{ type: 'x509pop', value: 'a' }] })] }
  const told = (there: Partial<DomainState>, phase?: 'open' | 'finished' | 'rolled_back', here: readonly string[] = []) => {
    const journal = phase && { entries: [], published: { there: none, here: none }, phase }
    const { findings } = plan(there, { journal, here: new Set(here), ours: { agents: withAlias.agents } })
    const [finding, ...more] = findings.filter(({ code }) => code === 'server-below')
    t.same([finding?.kind, finding?.about, more], ['by-hand', `${domain}/site`, []])
    return `${finding?.message}; ${finding?.next}`
  }
  const id = `${domain}/spire/agent${node}`
  t.match(told(there), /no agent gives .* our server's address/)
  t.match(told(withAlias), /has its CA from SPIRE.* as known by .*abc, which is at SPIRE; .*once that is here, .*our server's address/)
  t.match(told(withAlias, 'open', [id]), /abc, which is here; before the takeover is finished/)
  t.match(told(withAlias, 'finished', [id]), /JWT keys are known to nobody here/)
  t.match(told(withAlias, 'rolled_back'), /not known here any more; .*SPIRE's address again/)
  t.end()
})

await t.test('what hangs on selectors of an agent\'s pod is told before it moves, and what was lost afterwards', t => {
  const node = '/k8s_psat/prod/2e6a5d9c-node'
  const id = `${domain}/spire/agent${node}`
  const agents = [agent(node, psat('cluster:prod', 'agent_sa:spire-agent', 'agent_pod_name:spire-agent-1'))]
  const entries = [
    entry('of-pod', '/spire/server', psat('agent_pod_name:spire-agent-1')), entry('web', '/of-pod'), entry('both', '/of-pod'),
    entry('of-account', '/spire/server', psat('agent_sa:spire-agent')), entry('db', '/of-account'),
    entry('both-again', '/of-account', { spiffeId: idMessage(`${domain}/of-pod`) })
  ]
  const before = plan({ agents, entries: entries.slice(0, 5) })
  t.match(before.agents[0]?.obstacles, [/entry web .*below an alias/, /entry both .*below an alias/])
  t.ok(codesOf(before).includes('agent-pod of-account'))
  t.same(plan({ agents, entries }).agents[0]?.obstacles, [], 'what it gets by another alias too it keeps')

  const here = new Set([id])
  const moved = (...selectors: readonly string[]) =>
    plan({ agents, entries: entries.slice(3, 5) }, { here, ours: { agents: [agent(node, psat(...selectors))] } })
  t.match(moved('cluster:prod', 'agent_sa:assay-agent').agents, [{ place: 'here', obstacles: [/entry db .*does not have/] }])
  t.match(moved('cluster:prod', 'agent_sa:spire-agent').agents, [{ place: 'here', obstacles: [] }])
  t.notOk(codesOf(moved('agent_sa:spire-agent')).includes('agent-pod of-account'), 'nothing is left to do')
  t.end()
})

await t.test('SPIRE removes the alias of an agent that it evicts: of one that has moved the copy stays', t => {
  const node = '/join_token/t-1'
  const id = `${domain}/spire/agent${node}`
  const alias = entry('callers', `/spire/agent${node}`, { selectors: [{ type: 'spiffe_id', value: id }] })
  const web = entry('web', '/callers')
  const journal = { entries: ['callers', 'web'], published: { there: none, here: none }, phase: 'open' as const }
  const ours = { entries: [alias, web], agents: [agent(node)] }
  const here = new Set([id])
  const evicted = plan({ entries: [web] }, { ours, here, journal })
  t.same(evicted.entries.remove, [])
  t.ok(codesOf(evicted).includes('alias-kept callers'))
  t.match(evicted.agents, [{ id, place: 'here' }], 'a roll-back under it would be refused')
  t.same(plan({ entries: [web], agents: [agent(node)] }, { ours, here, journal }).entries.remove, ['callers'], 'removed by hand: gone here')
  t.same(plan({ entries: [web] }, { ours: { entries: [alias, web] }, journal }).entries.remove, ['callers'], 'it never came here')
  t.end()
})

await t.test('a number beyond what ours is raised to is told, and one that SPIRE has to pass on the way back', t => {
  const told = (sequenceNumber: bigint, phase?: 'open' | 'rolled_back') => {
    const journal = phase && { entries: [], published: { there: none, here: none }, phase }
    return codesOf(planTakeover(state({ ...spires, sequenceNumber }), state({ ...own, sequenceNumber: 9n }),
      { journal, here: new Set(), attestors, at })).includes('bundle-sequence example.org')
  }
  t.same([told(8n), told(40n), told(mostRaisedSequence - 1n), told(mostRaisedSequence)], [false, false, false, true])
  t.same([told(8n, 'open'), told(8n, 'rolled_back'), told(9n, 'rolled_back')], [false, true, false])
  t.end()
})
