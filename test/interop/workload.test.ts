import t, { type Test } from 'tap'
import { startAgent, startServer, type RunningAgent } from '../fakes/processes.ts'
import { Administrator } from './administrator.ts'
import { buildGoPrograms, GoWatcher, runGoProgram, withoutGo, type Line } from './go-programs.ts'

if (withoutGo === false) await buildGoPrograms()

interface SeenSvid { readonly id: string, readonly hint: string, readonly serial: string, readonly notAfter: number }

const svidsOf = (line: Line) => (line['svids'] ?? []) as readonly SeenSvid[]
const idsOf = (line: Line) => svidsOf(line).map(({ id, hint }) => `${id} ${hint}`.trim())
const domainsOf = (line: Line) => Object.keys(line['bundles'] as object).toSorted()
/** Not one by an agent that has just started and does not know its entries yet: go-spiffe comes back by itself. */
const isRefusal = (line: Line) => line['code'] !== undefined && line['code'] !== 'Unavailable'
const isState = (line: Line) => line['code'] === undefined

t.test('a go-spiffe workload', { skip: withoutGo }, async t => {
  await using server = await startServer()
  await using agent = await startAgent({ server })
  await using admin = new Administrator(server)
  await using foreign = await startServer({ trustDomain: 'partner.test' })
  await using foreignAdmin = new Administrator(foreign)

  await t.test('follows what operators change', async t => {
    await using watcher = await GoWatcher.start('workload-client', ['watch', '-socket', agent.socket])
    const refused = await watcher.next('x509', 'the refusal', isRefusal)
    t.equal(refused['code'], 'PermissionDenied', 'WLAPI-16 a workload without entry is refused')
    t.equal(refused['message'], 'no identity issued', 'WLAPI-16 in SPIRE\'s words')

    await t.test('its first identity, then a second with a hint', async t => {
      const first = await admin.register('spiffe://example.org/first', agent.id, { hint: 'main' })
      t.same(idsOf(await watcher.next('x509', 'the first identity', isState)), ['spiffe://example.org/first main'])
      const second = await admin.register('spiffe://example.org/second', agent.id, { hint: 'other' })
      const both = await watcher.next('x509', 'two identities', line => isState(line) && svidsOf(line).length === 2)
      const expected = ['spiffe://example.org/first main', 'spiffe://example.org/second other']
      t.same(idsOf(both).toSorted(), expected, 'WLAPI-07 each message is the whole state')
      t.equal(idsOf(both)[0], idsOf(both).toSorted()[first < second ? 0 : 1], 'WLAPI-35 ordered by entry id')
      await admin.unregister(second)
      const one = await watcher.next('x509', 'one identity', line => isState(line) && svidsOf(line).length === 1)
      t.same(idsOf(one), ['spiffe://example.org/first main'], 'WLAPI-07 what was withdrawn is missing from the next message')
      await admin.unregister(first)
      const gone = await watcher.next('x509', 'the withdrawal', isRefusal)
      t.equal(gone['code'], 'PermissionDenied', 'WLAPI-17 PermissionDenied on the open stream withdraws all')
    })

    await t.test('a federated bundle appears and vanishes', async t => {
      await admin.setBundle(await foreignAdmin.bundles.getBundle({}))
      const id = await admin.register('spiffe://example.org/federated', agent.id)
      t.same(domainsOf(await watcher.next('x509', 'the identity', isState)), ['example.org'])
      await admin.entries.batchUpdateEntry({ entries: [{ id, federatesWith: ['partner.test'] }], inputMask: { federatesWith: true } })
      const federated = await watcher.next('x509', 'the federated bundle', line => isState(line) && domainsOf(line).length > 1)
      t.same(domainsOf(federated), ['example.org', 'partner.test'], 'WLAPI-15 foreign bundles are keyed by their domain')
      await watcher.next('jwt', 'the federated keys', line => isState(line) && domainsOf(line).length > 1)
      await admin.bundles.batchDeleteFederatedBundle({ trustDomains: ['partner.test'], mode: 2 })
      await watcher.next('x509', 'no federated bundle', line => isState(line) && domainsOf(line).length === 1)
      await admin.unregister(id)
      await watcher.next('x509', 'the withdrawal', isRefusal)
    })

    await t.test('rotations', async t => {
      // Renewed after a third of it: what is left is for a machine that stands still for seconds.
      const id = await admin.register('spiffe://example.org/rotating', agent.id, { x509SvidTtl: 12 })
      const serials: string[] = []
      let previousEnd = 0
      for (let round = 0; round < 3; round++) {
        const [svid] = svidsOf(await watcher.next('x509', 'a rotation', isState))
        serials.push(svid?.serial ?? '')
        if (round > 0) {
          t.ok(previousEnd * 1000 > Date.now(), 'the next one came while the last was still valid')
          // By the certificates, since a busy reader may be late for the first of two.
          t.ok((svid?.notAfter ?? 0) - previousEnd > 1, 'and not at once')
        }
        previousEnd = svid?.notAfter ?? 0
      }
      t.equal(new Set(serials).size, 3, 'WLAPI-09 each rotation is pushed')
      await admin.unregister(id)
      await watcher.next('x509', 'the withdrawal', isRefusal)
    })
  })

  await t.test('speaks mTLS to another through X509Source', async t => {
    const id = await admin.register('spiffe://example.org/peer', agent.id)
    await served(agent, ['spiffe://example.org/peer'])
    await run(t, ['mtls', '-socket', agent.socket], 6)
    await admin.unregister(id)
  })

  await t.test('fetches and validates JWT-SVIDs', async t => {
    const ids = [
      await admin.register('spiffe://example.org/jwt-one', agent.id, { id: 'jwt-1', hint: 'one' }),
      await admin.register('spiffe://example.org/jwt-two', agent.id, { id: 'jwt-2', hint: 'two' })
    ]
    await served(agent, ['spiffe://example.org/jwt-one', 'spiffe://example.org/jwt-two'])
    const { lines } = await run(t, ['jwt', '-socket', agent.socket, '-audience', 'spiffe://example.org/db'], 14)
    const all = lines.find(line => line['jwtIds'] !== undefined)
    t.same(all?.['jwtIds'], ['spiffe://example.org/jwt-one one', 'spiffe://example.org/jwt-two two'], 'WLAPI-22 a token for each identity')
    for (const id of ids) await admin.unregister(id)
  })
})

/** Waits until the agent knows exactly these identities. */
async function served (agent: RunningAgent, ids: readonly string[]): Promise<void> {
  await using watcher = await GoWatcher.start('workload-client', ['watch', '-socket', agent.socket])
  await watcher.next('x509', ids.join(' and '), line => isState(line) && svidsOf(line).map(({ id }) => id).toSorted().join() === ids.join())
}

async function run (t: Test, words: readonly string[], least: number) {
  const outcome = await runGoProgram('workload-client', words)
  for (const { check, ok, detail } of outcome.checks) t.ok(ok, check, ok ? {} : { detail })
  t.ok(outcome.done, 'the scenario ran to its end')
  t.ok(outcome.checks.length >= least, `${outcome.checks.length} checks`)
  return outcome
}
