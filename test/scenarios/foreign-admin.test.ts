import t from 'tap'
import { parseSpiffeId } from '../../src/spiffe/spiffe-id.ts'
import { encodeBundle } from '../../src/wire/bundle-codec.ts'
import { bundleService } from '../../src/wire/generated/server-bundle.ts'
import { entryService } from '../../src/wire/generated/server-entry.ts'
import { openServerChannel } from '../fakes/agent-client.ts'
import { createTestAuthority } from '../fakes/authority.ts'
import { startTestServer } from '../fakes/server.ts'

t.test('SPIRE\'s scenario "admin-endpoints": an admin of a federated trust domain (spire-surface §1.1)', async t => {
  await using server = await startTestServer({ config: { adminIds: [parseSpiffeId('spiffe://partner.test/admin')] } })
  const partner = await createTestAuthority('partner.test')
  const as = async (path: string) => openServerChannel(server, await partner.issue(path))
  const list = async (path: string) => {
    await using channel = await as(path)
    return await channel.client(entryService).listEntries({})
  }
  await t.rejects(list('/admin'), { name: 'RpcError' }, 'as long as nothing vouches for it')
  await server.admin.client(bundleService).batchSetFederatedBundle({ bundle: [encodeBundle(partner.bundle)] })
  t.same((await list('/admin')).entries, [])
  await t.rejects(list('/other'), { name: 'RpcError' }, 'others of that domain are strangers')
  await server.admin.client(bundleService).batchDeleteFederatedBundle({ trustDomains: ['partner.test'] })
  await t.rejects(list('/admin'), { name: 'RpcError' }, 'and when its bundle is gone')
})
