import t from 'tap'
import { fetchAllEntries, syncEntries } from '../../src/agent/sync-entries.ts'
import { silentLogger } from '../../src/runtime/logger.ts'
import { parseSpiffeId } from '../../src/spiffe/spiffe-id.ts'
import { parseCertificate } from '../../src/x509/certificate.ts'
import { entryService } from '../../src/wire/generated/server-entry.ts'
import { attest, openServerChannel } from '../fakes/agent-client.ts'
import { startTestServer } from '../fakes/server.ts'

void t.test('entries asked for whole, as SPIRE\'s older agents do, are those that come by changes (spire-surface §2.3)', async t => {
  await using server = await startTestServer()
  const identity = await attest(server)
  const agentId = parseSpiffeId(parseCertificate(identity.chain[0] as Uint8Array).uriSans[0] ?? '')
  const id = (path: string) => ({ trustDomain: 'example.org', path })
  const entries = ['/a', '/b'].map((path, index) => ({
    spiffeId: id(path), parentId: id(agentId.replace('spiffe://example.org', '')), hint: path,
    selectors: [{ type: 'unix', value: `uid:${index}` }]
  }))
  await server.admin.client(entryService).batchCreateEntry({ entries })
  await using channel = openServerChannel(server, identity)
  const client = channel.client(entryService)
  const changes = await syncEntries(client, new Map(), agentId, silentLogger, {})
  const byId = (entries: typeof changes) => entries.toSorted((a, b) => a.id < b.id ? -1 : 1)
  const whole = await fetchAllEntries(client, new Map(), agentId, silentLogger, {})
  t.equal(whole.length, 2)
  t.strictSame(byId(whole), byId(changes))
  const known = new Map(changes.map(entry => [entry.id, entry]))
  const again = await fetchAllEntries(client, known, agentId, silentLogger, {})
  t.ok(again.every(entry => known.get(entry.id) === entry), 'what did not change stays the object it was')
})
