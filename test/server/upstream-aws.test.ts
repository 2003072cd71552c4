import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { decodeBundle } from '../../src/wire/bundle-codec.ts'
import { bundleService } from '../../src/wire/generated/server-bundle.ts'
import { localAuthorityService } from '../../src/wire/generated/server-local-authority.ts'
import { svidService } from '../../src/wire/generated/server-svid.ts'
import { createCertificateRequest } from '../../src/x509/certificate-request.ts'
import { parseCertificate } from '../../src/x509/certificate.ts'
import { verifyX509Svid } from '../../src/x509/verify-svid.ts'
import { newKey } from '../fakes/agent-client.ts'
import { motoMissing, startMoto } from '../fakes/moto.ts'
import { makePrivateCa, region } from '../fakes/private-ca.ts'
import { startTestServer, testPlugins, type TestServer } from '../fakes/server.ts'
import { startFakeVault } from '../fakes/vault.ts'

const skip = motoMissing()
if (skip !== false) t.comment(`AWS Private CA: skipped: ${skip}`)
process.env['AWS_ACCESS_KEY_ID'] = 'AKIDEXAMPLE'
process.env['AWS_SECRET_ACCESS_KEY'] = 'hush-hush'

const bundleOf = async (server: TestServer) => decodeBundle(await server.admin.client(bundleService).getBundle({}))

async function mint (server: TestServer): Promise<readonly Uint8Array[]> {
  const csr = createCertificateRequest(newKey(), { uriSans: ['spiffe://example.org/minted'] })
  return (await server.admin.client(svidService).mintX509SVID({ csr })).svid?.certChain ?? []
}

void t.test('a server below AWS Private CA, its keys wrapped by Vault; its root is replaced, tainted and revoked', { skip }, async t => {
  await using moto = await startMoto()
  await using vault = await startFakeVault()
  // A socket's path must be short.
  const folder = await mkdtemp(join(tmpdir(), 'assay-aws-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  const run = (certificate_authority_arn: string) => startTestServer({
    folder,
    config: {
      plugins: testPlugins({
        KeyManager: {
          database: {
            plugin_data: {
              key_encryption_key: { hashicorp_vault: { vault_addr: vault.address, token_auth: { token: 'root' }, key_name: 'kek' } }
            }
          }
        },
        UpstreamAuthority: { aws_pca: { plugin_data: { region, certificate_authority_arn, endpoint: moto.endpoint } } }
      })
    }
  })
  const verify = async (server: TestServer, chain: readonly Uint8Array[]) => {
    const bundle = await bundleOf(server)
    return verifyX509Svid(chain, { bundleOf: () => bundle, at: new Date() }).id
  }
  const [one, two] = [await makePrivateCa(moto.endpoint, 'First'), await makePrivateCa(moto.endpoint, 'Second')]
  let before: readonly Uint8Array[]
  let first: string
  {
    await using server = await run(one)
    before = await mint(server)
    t.equal(before.length, 2, 'leaf and the shared CA: the template leaves no room for an intermediate')
    t.equal(await verify(server, before), 'spiffe://example.org/minted')
    const [root, ...others] = (await bundleOf(server)).x509Authorities
    t.strictSame(others, [], 'the upstream\'s root alone')
    t.match(Buffer.from(parseCertificate(root?.certificate as Uint8Array).subjectDer).toString('latin1'), /First/)
    first = (await server.admin.client(localAuthorityService).getX509AuthorityState({})).active?.upstreamAuthoritySubjectKeyId ?? ''
  }
  await using server = await run(two)
  t.same((await mint(server))[1], before[1], 'a restart goes on with its CA and its key')
  const authorities = server.admin.client(localAuthorityService)
  const { preparedAuthority } = await authorities.prepareX509Authority({})
  t.not(preparedAuthority?.upstreamAuthoritySubjectKeyId, first)
  await authorities.activateX509Authority({ authorityId: preparedAuthority?.authorityId ?? '' })
  await authorities.taintX509UpstreamAuthority({ subjectKeyId: first })
  const tainted = (await bundleOf(server)).x509Authorities.filter(authority => authority.tainted)
  t.equal(tainted.length, 1)
  t.equal(await verify(server, before), 'spiffe://example.org/minted', 'a tainted root is still believed')
  await authorities.revokeX509UpstreamAuthority({ subjectKeyId: first })
  await t.rejects(verify(server, before), { code: 'x509_chain_untrusted' }, 'a revoked one is not')
  t.equal(await verify(server, await mint(server)), 'spiffe://example.org/minted')
})

void t.test('a key-encryption key that cannot be reached ends a start with its code', async t => {
  await using vault = await startFakeVault()
  const { address } = vault
  await vault.stop()
  const key_encryption_key = { hashicorp_vault: { vault_addr: address, token_auth: { token: 'root' }, key_name: 'kek' } }
  const plugins = testPlugins({ KeyManager: { database: { plugin_data: { key_encryption_key } } } })
  const message = /^KeyManager "database": vault cannot be reached/
  await t.rejects(startTestServer({ config: { plugins } }), { code: 'key_service_unreachable', message })
})
