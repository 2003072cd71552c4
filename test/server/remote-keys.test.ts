import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { hashicorpVaultKeyManagerPlugin } from '../../src/keys/hashicorp-vault/hashicorp-vault-plugin.ts'
import type { ServerConfig } from '../../src/server/server-config.ts'
import { bundleService } from '../../src/wire/generated/server-bundle.ts'
import { svidService } from '../../src/wire/generated/server-svid.ts'
import { createCertificateRequest } from '../../src/x509/certificate-request.ts'
import { newKey } from '../fakes/agent-client.ts'
import { postgresMissing, startPostgres } from '../fakes/postgres.ts'
import { startTestServer, testPlugins, type TestServer } from '../fakes/server.ts'
import { startFakeVault, type FakeVault } from '../fakes/vault.ts'

function vaultKeys ({ address }: FakeVault): Pick<ServerConfig, 'plugins'> {
  const config = hashicorpVaultKeyManagerPlugin.config.parse({ vault_addr: address, token_auth: { token: 'root' } })
  return { plugins: { ...testPlugins(), KeyManager: [{ name: 'hashicorp_vault', config }] } }
}

function clientsOf ({ admin }: TestServer) {
  const svids = admin.client(svidService)
  return {
    x509: () => svids.mintX509SVID({
      csr: createCertificateRequest(newKey(), { uriSans: ['spiffe://example.org/web'] }), ttl: 60
    }),
    jwt: () => svids.mintJWTSVID({ id: { trustDomain: 'example.org', path: '/web' }, audience: ['a'], ttl: 60 }),
    roots: async () => {
      const { x509Authorities } = await admin.client(bundleService).getBundle({})
      return x509Authorities.map(({ asn1 }) => Buffer.from(asn1).toString('hex'))
    }
  }
}

await t.test('a server whose keys are in Vault', async t => {
  await using vault = await startFakeVault()
  const folder = await mkdtemp(join(tmpdir(), 'assay-remote-keys-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  const config = vaultKeys(vault)
  let before: readonly string[]
  {
    await using server = await startTestServer({ config, folder })
    const { x509, jwt, roots } = clientsOf(server)
    before = await roots()
    t.equal(before.length, 1)
    t.equal((await x509()).svid?.certChain.length, 2, 'leaf and the server\'s intermediate')
    t.ok((await jwt()).svid?.token)
    vault.fault = () => ({ status: 503, text: '{"errors":["Vault is sealed"]}' })
    t.equal((await x509()).svid?.certChain.length, 2, 'X509-SVIDs do not wait for Vault')
    await t.rejects(jwt(), { code: 'key_service_sealed' }, 'JWT-SVIDs say that it is sealed')
  }
  await t.rejects(startTestServer({ config, folder }), { code: 'key_service_sealed' }, 'a start needs it for the intermediate, and says so')
  vault.fault = () => undefined
  await using server = await startTestServer({ config, folder })
  t.same(await clientsOf(server).roots(), before, 'the same root after a restart')
})

const skip = postgresMissing()
if (skip !== false) t.comment(`skipped: ${skip}`)

await t.test('replicas on one database have one root in Vault', { skip }, async t => {
  await using vault = await startFakeVault()
  await using postgres = await startPostgres()
  const config = { ...vaultKeys(vault), datastoreUrl: await postgres.createSchema() }
  await using one = await startTestServer({ config })
  await using two = await startTestServer({ config })
  const [ofOne, ofTwo] = [await clientsOf(one).roots(), await clientsOf(two).roots()]
  t.equal(ofOne.length, 1)
  t.same(ofOne, ofTwo)
  t.equal([...vault.keys.keys()].filter(name => name.includes('x509-CA')).length, 1)
  t.ok((await clientsOf(two).jwt()).svid?.token)
})
