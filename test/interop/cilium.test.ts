import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { startAgent, startServer } from '../fakes/processes.ts'
import { Administrator } from './administrator.ts'
import { buildGoPrograms, GoWatcher, type Line, runGoProgram, withoutGo } from './go-programs.ts'

if (withoutGo === false) await buildGoPrograms()

const domain = 'spiffe.cilium'
const idsOf = (line: Line) => line['ids'] as readonly string[] | undefined
const sizesOf = (line: Line) => line['sizes'] as Readonly<Record<string, number>>
const isState = (line: Line) => line['code'] === undefined

t.test('Cilium\'s calls, by the libraries it uses', { skip: withoutGo }, async t => {
  const folder = await mkdtemp(join(tmpdir(), 'cilium-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  await using server = await startServer({ trustDomain: domain, config: { admin_ids: [`spiffe://${domain}/cilium-operator`] } })
  const adminSocket = join(folder, 'admin.sock')
  const config = { admin_socket_path: adminSocket, authorized_delegates: [`spiffe://${domain}/cilium-agent`] }
  await using agent = await startAgent({ server, config })
  await using admin = new Administrator(server)
  // Both run as this user: the operator shows the first identity that it gets.
  await admin.register(`spiffe://${domain}/cilium-operator`, agent.id, { id: 'a-operator' })

  await using watcher = await GoWatcher.start('cilium-client', ['agent', '-adminSocket', adminSocket])
  const refused = await watcher.next('svids refused', 'the refusal', line => line['code'] === 'PermissionDenied' &&
    line['message'] !== 'no identity issued')
  t.equal(refused['message'], 'caller not configured as an authorized delegate', 'who is no delegate gets nothing, in SPIRE\'s words')
  const delegate = await admin.register(`spiffe://${domain}/cilium-agent`, agent.id, { id: 'b-agent' })
  t.same(idsOf(await watcher.next('svids', 'the first set', isState)), [], 'nothing is an empty set')
  t.same(sizesOf(await watcher.next('bundles', 'the bundles', isState)), { [`spiffe://${domain}`]: 1 })

  const operate = async (t: Test, what: string, ...identities: string[]) => {
    const words = ['operator', '-socket', agent.socket, '-server', server.address, what, ...identities]
    const { checks, done } = await runGoProgram('cilium-client', words)
    for (const { check, ok, detail } of checks) t.ok(ok, check, ok ? {} : { detail })
    t.ok(done, `${what} ran to its end`)
  }
  const numbered = (...numbers: string[]) => numbers.map(number => `spiffe://${domain}/identity/${number}`)
  await operate(t, 'upsert', '1001', '1002')
  const both = await watcher.next('svids', 'both identities', line => idsOf(line)?.length === 2)
  t.same(idsOf(both), numbered('1001', '1002'), 'each with a certificate and key that fit')
  const { entries } = await admin.entries.listEntries({ filter: { bySpiffeId: { trustDomain: domain, path: '/identity/1001' } } })
  t.match(entries, [{ parentId: { path: '/cilium-operator' }, selectors: [{ type: 'cilium', value: 'mutual-auth' }] }])
  await operate(t, 'upsert', '1001')
  await operate(t, 'delete', '1001')
  const left = await watcher.next('svids', 'the withdrawal', line => idsOf(line)?.length === 1)
  t.same(idsOf(left), numbered('1002'), 'what is gone is not there')

  await using partner = await startServer({ trustDomain: 'partner.test' })
  await using partnerAdmin = new Administrator(partner)
  await admin.setBundle(await partnerAdmin.bundles.getBundle({}))
  await admin.register(`spiffe://${domain}/federated`, agent.id, { federatesWith: ['partner.test'] })
  const federated = await watcher.next('bundles', 'the partner\'s bundle', line => Object.keys(sizesOf(line)).length === 2)
  t.same(sizesOf(federated), { [`spiffe://${domain}`]: 1, 'spiffe://partner.test': 1 })

  await admin.unregister(delegate)
  const ended = await watcher.next('svids refused', 'the end', line => line['code'] === 'PermissionDenied')
  t.equal(ended['message'], 'caller not configured as an authorized delegate', 'a delegate that is none any more is cut off')
})
