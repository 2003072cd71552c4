import t from 'tap'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { TableEvaluator, type ApiCall, type ApiPolicyEvaluator } from '../../../src/authz/apipolicy/evaluator.ts'
import { AdminRoles } from '../../../src/authz/admin/role.ts'
import { Authorizer, type AuthorizeDeps } from '../../../src/server/authorize.ts'
import { systemClock } from '../../../src/runtime/clock.ts'
import { loadApiPolicy } from '../../../src/server/load-api-policy.ts'
import { parseSpiffeId } from '../../../src/spiffe/spiffe-id.ts'
import { noPrivileges, testAdminRoles } from '../../fakes/roles.ts'
import { fakeCall } from '../../fakes/call-context.ts'
import { attest, openServerChannel } from '../../fakes/agent-client.ts'
import { startTestServer } from '../../fakes/server.ts'
import { runAssay } from '../../fakes/run-assay.ts'
import { parseTrustDomain } from '../../../src/spiffe/trust-domain.ts'
import { entryService } from '../../../src/wire/generated/server-entry.ts'
import { rego } from '../../authz/apipolicy/policy-files.ts'

const get = '/spire.api.server.entry.v1.Entry/GetEntry'
const list = '/spire.api.server.entry.v1.Entry/ListEntries'

function authorizer (policy: ApiPolicyEvaluator, more: Partial<AuthorizeDeps> = {}): Authorizer {
  const replica = { revocations: { requireSvid () {} }, requireFresh () {}, registry: { someEntry: () => false } }
  return new Authorizer({
    adminIds: new Set([parseSpiffeId('spiffe://example.org/admin')]), roles: new AdminRoles([]), privileges: noPrivileges,
    socketRequiresRole: false, policy, replica: replica as never, aside: { requireDuty () {} } as never, clock: {} as never, ...more
  })
}

const local = (method: string, uid = 1001) => ({ ...fakeCall(), method, caller: { kind: 'unix', peer: { uid } } as never })
const remote = (method: string, path: string) =>
  ({ ...fakeCall(), method, caller: { kind: 'tls', svid: { id: parseSpiffeId(`spiffe://example.org${path}`) } } as never })

void t.test('whatever policy is configured decides who may call, and is told of the call', async t => {
  const seen: ApiCall[] = []
  const table = new TableEvaluator('test', new Map([[get, ['admin']], [list, ['local']]]))
  const policy = { name: 'test', evaluate: async (call: ApiCall) => {
    seen.push(call)
    return table.evaluate(call)
  } }
  const subject = authorizer(policy)
  await t.resolves(subject.authorize(remote(get, '/admin')))
  await t.rejects(subject.authorize(local(get)), { code: 'authorization_denied' }, 'the socket where the policy has only admins')
  await t.resolves(subject.authorize(local(list)))
  await t.rejects(subject.authorize(remote(list, '/admin')), { code: 'authorization_denied' }, 'an admin where it has only the socket')
  t.match(seen[0], { caller: 'spiffe://example.org/admin', fullMethod: get })
})

void t.test('roles hold beside a policy, for what it opens to admins', async t => {
  const roles = testAdminRoles({
    name: 'a', members: ['spiffe://example.org/ci'], uids: [1001], verbs: ['entries.read'], scope: { ids: ['*'] }
  })
  const subject = authorizer(new TableEvaluator('test', new Map([[get, ['admin']], [list, ['local']]])), { roles })
  await t.resolves(subject.authorize(remote(get, '/ci')))
  await t.rejects(subject.authorize(remote(list, '/ci')), { code: 'authorization_denied' })
  await t.resolves(subject.authorize(local(list)))
  await t.rejects(subject.authorize(local(get)), { code: 'authorization_denied' })
})

void t.test('where the socket requires a role, others are refused; without one they may do all', async t => {
  const policy = new TableEvaluator('test', new Map([[get, ['local']]]))
  const strict = authorizer(policy, { socketRequiresRole: true })
  const stranger = (process.getuid?.() ?? 0) + 1
  await t.rejects(strict.authorize(local(get, stranger)), { code: 'authorization_denied' })
  await t.resolves(strict.authorize(local(get, 0)), 'root')
  const open = authorizer(policy)
  const context = local(get, stranger)
  await open.authorize(context)
  t.notOk(open.accessOf(context).isRestricted)
  t.throws(() => open.accessOf(local(get)), { code: 'authorization_denied' }, 'a call that was not authorized has no access at all')
})

void t.test('a policy that cannot be honoured keeps the server from starting, and validate from passing', async t => {
  const folder = await mkdtemp(join(tmpdir(), 'assay-policy-'))
  t.teardown(() => rm(folder, { recursive: true }))
  await writeFile(join(folder, 'p.rego'), rego)
  await writeFile(join(folder, 'p.json'), '{"apis": []}')
  const config = (rego: string) => JSON.stringify({ server: {
    trust_domain: 'example.org', data_dir: folder, socket_path: join(folder, 's.sock'), bind_port: 0,
    experimental: { auth_opa_policy_engine: { local: { rego_path: join(folder, rego), policy_data_path: join(folder, 'p.json') } } }
  } })
  await writeFile(join(folder, 'other.json'), config('p.rego'))
  await writeFile(join(folder, 'gone.json'), config('gone.rego'))
  for (const command of ['validate', 'run']) {
    const run = (file: string) => runAssay(['server', command, '-config', join(folder, file)])
    t.match(await run('other.json'), { stderr: /not SPIRE's standard policy/ }, command)
    t.match(await run('gone.json'), { stderr: /cannot read .*gone\.rego/ }, command)
    t.not((await run('other.json')).code, 0)
  }
})

void t.test('Rego decides a server\'s calls, by what they ask for', async t => {
  const folder = await mkdtemp(join(tmpdir(), 'assay-policy-'))
  t.teardown(() => rm(folder, { recursive: true }))
  const dataPath = join(folder, 'data.json')
  await writeFile(dataPath, JSON.stringify({ teams: { '': '/red/' } }))
  const regoPath = join(import.meta.dirname, '../../authz/apipolicy/teams/bundle.tar.gz')
  await using server = await startTestServer({ config: { apiPolicy: { regoPath, dataPath, opaPath: undefined } } })
  // Without a certificate; whom the data lets in by the entries alone.
  await using stranger = openServerChannel(server)
  const entries = (path: string) => ({ entries: [{
    spiffeId: { trustDomain: 'example.org', path }, parentId: { trustDomain: 'example.org', path: '/node' },
    selectors: [{ type: 'unix', value: 'uid:1' }]
  }] })
  t.match(await stranger.client(entryService).batchCreateEntry(entries('/red/a')), { results: [{ status: { code: 0 } }] })
  await t.rejects(stranger.client(entryService).batchCreateEntry(entries('/blue/a')), { code: 'authorization_denied' })
  t.match(await server.admin.client(entryService).batchCreateEntry(entries('/blue/a')), { results: [{ status: { code: 0 } }] })
  t.ok(await attest(server), 'streams of requests are asked about without one')

  const config = (open: string) => JSON.stringify({ server: {
    trust_domain: 'example.org', data_dir: folder, socket_path: join(folder, 's.sock'), bind_port: 0,
    experimental: { auth_opa_policy_engine: { local: { rego_path: regoPath, policy_data_path: join(folder, open) } } }
  } })
  for (const open of ['everybody', 'nobody']) {
    await writeFile(join(folder, open), JSON.stringify({ open }))
    await writeFile(join(folder, `${open}.conf`), config(open))
  }
  const validate = (open: string) => runAssay(['server', 'validate', '-config', join(folder, `${open}.conf`)])
  t.match(await validate('everybody'), { code: 1, stderr: /policy_too_open/ })
  t.match(await validate('nobody'), { code: 0 })
})

const opa = process.env['OPA_ENVOY_BIN']
void t.test('a file of Rego is compiled by a configured opa, in the syntax of today or of before',
  { skip: opa === undefined ? 'OPA_ENVOY_BIN names no opa' : false }, async t => {
    const folder = await mkdtemp(join(tmpdir(), 'assay-policy-'))
    t.teardown(() => rm(folder, { recursive: true }))
    const load = async (text: string) => {
      await writeFile(join(folder, 'p.rego'), text)
      const scope = new AsyncDisposableStack()
      t.teardown(() => scope.disposeAsync())
      const apiPolicy = { regoPath: join(folder, 'p.rego'), dataPath: undefined, opaPath: opa }
      return await loadApiPolicy({ apiPolicy, trustDomain: parseTrustDomain('example.org') }, systemClock, scope)
    }
    const result = (allow: string) => `package spire
result = {"allow": ${allow}, "allow_if_admin": admin, "allow_if_local": false, "allow_if_downstream": false, "allow_if_agent": false}
`
    const call = { caller: '', callerFilePath: '', fullMethod: get, req: null }
    for (const admin of [`admin if input.full_method == "${get}"`, `admin { input.full_method == "${get}" }`]) {
      const { evaluator } = await load(`${result('false')}default admin = false\n${admin}\n`)
      t.match(await evaluator.evaluate(call), { allow: false, allowIfAdmin: true }, admin)
      t.match(await evaluator.evaluate({ ...call, fullMethod: list }), { allowIfAdmin: false })
    }
    await t.rejects(load(`${result('open')}admin := true\nopen := 1 < 2\n`), { code: 'policy_too_open' }, 'what no text shows')
    await t.rejects(load(`${result('true')}admin := true\n`), { code: 'policy_too_open' })
    await t.rejects(load('package spire\nresult := '), { code: 'rego_bundle_invalid', message: /opa cannot build/ })
  })
