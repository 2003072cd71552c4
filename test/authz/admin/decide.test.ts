import t from 'tap'
import { decideAdministration } from '../../../src/authz/admin/decide.ts'
import { AdminRoles } from '../../../src/authz/admin/role.ts'
import type { EntryFacts } from '../../../src/authz/admin/admin-object.ts'
import { parseSpiffeId, type SpiffeId } from '../../../src/spiffe/spiffe-id.ts'
import { chooseSeed, Random } from '../../fakes/random.ts'
import { noPrivileges, testAdminRoles, testRoles } from '../../fakes/roles.ts'
import { mayDo, privilegesOf, randomQuestion, type Question } from './role-model.ts'

const teamA = testRoles({
  name: 'team-a',
  members: ['spiffe://example.org/ci/team-a'],
  verbs: ['entries.read', 'entries.write'],
  scope: { ids: ['spiffe://example.org/team-a/*'], parents: ['spiffe://example.org/nodes/*'], selectors: ['k8s:*'] }
})
const entry = (change: Partial<EntryFacts>): EntryFacts => ({
  spiffeId: parseSpiffeId('spiffe://example.org/team-a/web'),
  parentId: parseSpiffeId('spiffe://example.org/nodes/1'),
  selectors: [{ type: 'k8s', value: 'ns:team-a' }],
  federatesWith: [],
  dnsNames: [],
  admin: false,
  downstream: false,
  ...change
})
const write = (change: Partial<EntryFacts>, privileges = noPrivileges) =>
  decideAdministration(teamA, 'entries.write', { kind: 'entry', entry: entry(change) }, privileges)

/** As the server does it: who holds which roles, then what they say. */
function decides (question: Question): boolean {
  const roles = new AdminRoles(testRoles(...question.roles))
  const held = 'uid' in question.holder ? roles.ofUid(question.holder.uid) : roles.ofId(question.holder.id as SpiffeId)
  return decideAdministration(held, question.verb, question.object, privilegesOf(question)).allowed
}

void t.test('a scope is whole path segments', async t => {
  t.match(write({}), { allowed: true, role: 'team-a' })
  for (const path of ['team-ab', 'team-ab/web', 'team-a', 'Team-a/web', 'x/team-a/web', 'team-a.web/x', 'team']) {
    const spiffeId = parseSpiffeId(`spiffe://example.org/${path}`)
    t.match(write({ spiffeId }), { allowed: false, role: 'team-a', outside: 'SPIFFE ID', value: spiffeId }, path)
  }
  t.match(write({ spiffeId: parseSpiffeId('spiffe://other.test/team-a/web') }), { outside: 'SPIFFE ID' }, 'another trust domain')
  t.match(write({ spiffeId: parseSpiffeId('spiffe://example.org.evil/team-a/web') }), { outside: 'SPIFFE ID' }, 'a longer trust domain')
  for (const path of ['example.org/team-a/../b', 'example.org/team-a/', 'example.org/team-a//b', 'Example.org/team-a/b']) {
    const id = `spiffe://${path}`
    t.throws(() => parseSpiffeId(id), { code: 'spiffe_id_malformed' }, `${id} comes as far as no decision`)
    t.throws(() => testRoles({ name: 'x', members: [`${id}/*`], verbs: ['cluster.read'] }), { name: 'ZodError' }, 'nor into a role')
  }
})

void t.test('each part of an entry must be within, and the answer names the first that is not', async t => {
  t.match(write({ parentId: parseSpiffeId('spiffe://example.org/other/1') }), { outside: 'parent ID' })
  t.match(write({ selectors: [{ type: 'unix', value: 'uid:0' }] }), { outside: 'selector', value: 'unix:uid:0' })
  t.match(write({ federatesWith: ['partner.test' as never] }), { outside: 'federation partner' }, 'what is left out is not allowed')
  t.match(write({ dnsNames: ['web.internal'] }), { outside: 'DNS name' })
  const read = (change: Partial<EntryFacts>) =>
    decideAdministration(teamA, 'entries.read', { kind: 'entry', entry: entry(change) }, noPrivileges).allowed
  t.ok(read({ dnsNames: ['web.internal'], admin: true }), 'reading is narrowed by what the scope names')
  t.notOk(read({ parentId: parseSpiffeId('spiffe://example.org/other/1') }))
})

void t.test('flags, node aliases and IDs that administer are grants of their own', async t => {
  const alias = parseSpiffeId('spiffe://example.org/spire/server')
  t.match(write({ admin: true }), { allowed: false, outside: 'verb', value: 'entries.admin' })
  t.match(write({ downstream: true }), { allowed: false, outside: 'verb', value: 'entries.downstream' })
  t.match(write({ parentId: alias }), { allowed: false, outside: 'verb', value: 'entries.alias' })
  const powers = (found: object) => ({ ...noPrivileges, ofId: () => ({ admin: false, downstream: false, roles: [], ...found }) })
  t.match(write({}, powers({ admin: true })), { value: 'entries.admin' }, 'an ID that has an admin entry already')
  t.match(write({}, powers({ downstream: true })), { value: 'entries.downstream' })
  t.match(write({}, powers({ roles: ['team-a', 'ops'] })), { value: 'entries.admin' }, 'an ID with a role that the caller lacks')
  t.match(write({}, powers({ roles: ['team-a'] })), { allowed: true }, 'an ID that can do what the caller can')
})

void t.test('roles do not add up within one object', async t => {
  const roles = testRoles(
    { name: 'ids', uids: [1], verbs: ['entries.write'], scope: { ids: ['spiffe://example.org/team-a/*'], parents: [], selectors: ['*'] } },
    { name: 'parents', uids: [1], verbs: ['entries.write'], scope: { ids: [], parents: ['*'], selectors: ['*'] } })
  t.notOk(decideAdministration(roles, 'entries.write', { kind: 'entry', entry: entry({}) }, noPrivileges).allowed)
  t.match(decideAdministration([], 'entries.write', undefined, noPrivileges), { allowed: false, role: undefined, outside: 'verb' })
})

void t.test('agents and servers hold no role', async t => {
  const roles = testAdminRoles({ name: 'all', members: ['spiffe://example.org/*'], verbs: ['cluster.read'] })
  t.equal(roles.ofId(parseSpiffeId('spiffe://example.org/ops')).length, 1)
  t.equal(roles.ofId(parseSpiffeId('spiffe://example.org/spire/agent/join_token/x')).length, 0)
  t.equal(roles.ofId(parseSpiffeId('spiffe://example.org/spire/server')).length, 0)
})

void t.test('1 000 random questions are answered as the oracle answers them', async t => {
  const seed = chooseSeed()
  const random = new Random(seed)
  const answers = { true: 0, false: 0 }
  const wrong: Question[] = []
  for (let index = 0; index < 1_000; index++) {
    const question = randomQuestion(random)
    const expected = mayDo(question)
    answers[`${expected}`]++
    if (decides(question) !== expected) wrong.push(question)
  }
  t.equal(wrong.length, 0, `seed ${seed}; the first that is not: ${JSON.stringify(wrong[0])}`)
  t.ok(answers.true > 80 && answers.false > 80, `both answers occur: ${JSON.stringify(answers)}`)
})
