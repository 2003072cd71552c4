import t from 'tap'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { runAssay } from '../fakes/run-assay.ts'

const config = `server:
  trust_domain: example.org
  data_dir: /data
  admin_ids: [spiffe://example.org/boss]
  roles:
    - name: team-a
      members: [spiffe://example.org/ci/team-a, "spiffe://partner.test/ops/*"]
      uids: [1001]
      verbs: [entries.read, entries.write]
      scope:
        ids: ["spiffe://example.org/team-a/*"]
        parents: ["*"]
        selectors: ["k8s:*"]
        required_selectors: ["k8s:ns:team-a"]
`
const entry = (path: string, more: object = {}) => ({
  spiffe_id: `spiffe://example.org${path}`,
  parent_id: 'spiffe://example.org/nodes/1',
  selectors: [{ type: 'k8s', value: 'ns:team-a' }],
  ...more
})

void t.test('role list and role check', async t => {
  const folder = await mkdtemp(join(tmpdir(), 'assay-roles-'))
  t.teardown(() => rm(folder, { recursive: true }))
  const file = join(folder, 'server.yaml')
  await writeFile(file, config)
  const role = (words: readonly string[], input?: string) =>
    runAssay(['role', ...words, '-config', file], input === undefined ? {} : { input })
  const who = ['-id', 'spiffe://example.org/ci/team-a']

  t.match(await role(['list']), {
    code: 0, stdout: /^ROLE +HOLDERS +VERBS +SCOPE\nteam-a +spiffe:.*partner\.test\/ops\/\* uid:1001 +entries\.read/
  })
  t.match(JSON.parse((await role(['list', '-output', 'json'])).stdout), {
    roles: [{ name: 'team-a', verbs: ['entries.read', 'entries.write'] }]
  })
  t.match(await role(['check', ...who]), {
    code: 0, stdout: /^role "team-a" grants entries\.read entries\.write\n {2}ids: spiffe:\/\/example\.org\/team-a\/\*\n/
  })
  t.match(await role(['check', '-uid', '1001', '-verb', 'entries.write']), { code: 0, stdout: 'allowed: entries.write by role "team-a"\n' })
  t.match(await role(['check', '-uid', '1002']), { code: 0, stdout: 'may do all\n' })
  t.match(await role(['check', '-id', 'spiffe://example.org/boss']), { code: 0, stdout: 'may do all\n' })
  t.match(await role(['check', '-id', 'spiffe://example.org/ci/team-ab']), { code: 1, stdout: 'has no role\n' })
  t.match(await role(['check', ...who, '-verb', 'agents.ban']), { code: 1, stdout: 'denied: agents.ban: no role grants agents.ban\n' })

  const entries = JSON.stringify({ entries: [
    entry('/team-a/web'), entry('/team-ab/web'), entry('/team-a/db', { selectors: [{ type: 'k8s', value: 'sa:x' }] }),
    entry('/team-a/x', { admin: true })
  ] })
  const write = ['check', ...who, '-verb', 'entries.write', '-entry', '-']
  t.same((await role(write, entries)).stdout.split('\n'), [
    'allowed: entries.write spiffe://example.org/team-a/web by role "team-a"',
    'denied: entries.write spiffe://example.org/team-ab/web: SPIFFE ID spiffe://example.org/team-ab/web is outside role "team-a"',
    'denied: entries.write spiffe://example.org/team-a/db: required selector k8s:ns:team-a is outside role "team-a"',
    'denied: entries.write spiffe://example.org/team-a/x: role "team-a" does not grant entries.admin',
    ''
  ])
  t.match(JSON.parse((await role([...write, '-output', 'json'], entries)).stdout), {
    allowed: false,
    unrestricted: false,
    items: [{ allowed: true, role: 'team-a' }, { allowed: false, outside: 'SPIFFE ID' }, {}, { value: 'entries.admin' }]
  })

  for (const words of [['check'], ['check', ...who, '-uid', '1'], ['check', ...who, '-verb', 'x'], ['check', ...who, '-entry', '-']]) {
    t.match(await role(words), { code: 2 }, words.join(' '))
  }
})
