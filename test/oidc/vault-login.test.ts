import t from 'tap'
import { parseServerConfig } from '../../src/server/server-config.ts'
import { firstOf } from '../../src/runtime/first-of.ts'
import { bundleService } from '../../src/wire/generated/server-bundle.ts'
import { entryService } from '../../src/wire/generated/server-entry.ts'
import { localAuthorityService } from '../../src/wire/generated/server-local-authority.ts'
import { svidService } from '../../src/wire/generated/server-svid.ts'
import { workloadService } from '../../src/wire/generated/workload.ts'
import { createCertificateRequest } from '../../src/x509/certificate-request.ts'
import { splitCertificates } from '../../src/x509/certificate.ts'
import { encodePem } from '../../src/x509/pem.ts'
import { securityHeader, startTestAgent } from '../fakes/agent.ts'
import { newKey } from '../fakes/agent-client.ts'
import { eventually } from '../fakes/eventually.ts'
import { freePort } from '../fakes/free-port.ts'
import { realVaultMissing } from '../fakes/real-vault.ts'
import { startTestServer } from '../fakes/server.ts'
import { startVaultInEarnest, type VaultAsked } from '../fakes/vault-in-earnest.ts'
import { ask } from './ask.ts'
import { CertificateFolder, WebAuthority } from './web-certificate.ts'

const skip = realVaultMissing()
if (skip !== false) t.comment(`login to a real Vault: skipped: ${skip}`)
t.setTimeout(600_000)

const id = { trustDomain: 'example.org', path: '/web' }
const pem = (chain: readonly Uint8Array[]) => chain.map(der => encodePem('CERTIFICATE', der)).join('')

await t.test('a workload reads a secret of Vault\'s by its JWT-SVID, and by its X509-SVID', { skip, timeout: 500_000 }, async t => {
  await using scope = new AsyncDisposableStack()
  const web = new WebAuthority()
  const files = scope.use(new CertificateFolder(web.issue(['localhost', 'oidc.example.org'])))
  const { certificatePath, keyPath } = files.paths
  const port = await freePort()
  const issuer = `https://localhost:${port}`
  const { oidc } = parseServerConfig({ file: { name: 's', text: JSON.stringify({ server: {
    trust_domain: 'example.org', data_dir: '/d', oidc_discovery_provider: {
      domains: ['localhost'], serving_cert_file: { addr: `127.0.0.1:${port}`, cert_file_path: certificatePath, key_file_path: keyPath }
    }
  } }) } })
  const server = scope.use(await startTestServer({ config: { oidc, jwtIssuer: issuer } }))
  const agent = scope.use(await startTestAgent(server))
  const selectors = [{ type: 'unix', value: `uid:${process.getuid?.()}` }]
  const parentId = { trustDomain: 'example.org', path: agent.path }
  // Vault calls a caller by the common name, which is the first DNS name, and lets nobody in without one.
  await server.admin.client(entryService).batchCreateEntry({ entries: [{ spiffeId: id, parentId, selectors, dnsNames: ['web'] }] })
  const fetchX509 = () => firstOf(agent.workload.client(workloadService).fetchX509SVID({}, securityHeader))
  await eventually('the workload\'s identity', () => fetchX509().then(() => true, () => false), 120_000)
  await eventually('published keys', async () =>
    (await ask('/keys', { port, ca: web.pem, host: 'localhost' }).catch(() => undefined))?.status === 200, 120_000)

  const vault = scope.use(await startVaultInEarnest(String(process.env['VAULT_BIN']), { path: files.path, ...files.paths }, web.pem))
  const set = async (path: string, body: object, method = 'POST') => {
    const { status, body: answer } = await vault.ask(method, path, { token: vault.rootToken, body })
    if (status >= 300) throw new Error(`${path}: ${status} ${JSON.stringify(answer)}`)
  }
  const roots = async () => pem((await server.admin.client(bundleService).getBundle({})).x509Authorities.map(({ asn1 }) => asn1))
  await set('sys/mounts/secret', { type: 'kv' })
  await set('secret/web', { password: 'correct-horse' })
  await set('secret/other', { password: 'another' })
  await set('sys/policies/acl/web', { policy: 'path "secret/web" { capabilities = ["read"] }' })
  await set('sys/auth/jwt', { type: 'jwt' })
  await set('auth/jwt/config', { oidc_discovery_url: issuer, oidc_discovery_ca_pem: web.pem, bound_issuer: issuer })
  const role = { role_type: 'jwt', user_claim: 'sub', bound_audiences: ['vault'], token_ttl: '10m' }
  await set('auth/jwt/role/web', { ...role, bound_subject: 'spiffe://example.org/web', token_policies: ['web'] })
  await set('sys/policies/acl/trust', {
    policy: 'path "auth/cert/certs/web" { capabilities = ["update"] allowed_parameters = { "certificate" = [] } }'
  })
  await set('auth/jwt/role/trust', { ...role, bound_subject: 'spiffe://example.org/vault-trust', token_policies: ['trust'] })
  await set('sys/auth/cert', { type: 'cert' })
  await set('auth/cert/certs/web', {
    certificate: await roots(), allowed_uri_sans: ['spiffe://example.org/web'], token_policies: ['web'], token_ttl: '10m'
  })
  await set('auth/token/revoke-self', {})
  const byRoot = await vault.ask('GET', 'secret/web', { token: vault.rootToken })
  t.equal(byRoot.status, 403, 'nobody has a token that Vault did not give for an SVID')

  const byJwt = async (jwt: string, name = 'web') => await vault.ask('POST', 'auth/jwt/login', { body: { role: name, jwt } })
  const byX509 = async (client: NonNullable<VaultAsked['client']>) =>
    await vault.ask('POST', 'auth/cert/login', { body: { name: 'web' }, client })
  const fetchJwt = async (audience: string) =>
    (await agent.workload.client(workloadService).fetchJWTSVID({ audience: [audience] }, securityHeader)).svids[0]?.svid ?? ''
  const mintJwt = async (path: string) =>
    (await server.admin.client(svidService).mintJWTSVID({ id: { ...id, path }, audience: ['vault'] })).svid?.token ?? ''
  const ownX509 = async () => {
    const svid = (await fetchX509())?.svids[0]
    if (svid === undefined) throw new Error('no SVID')
    return { cert: pem(splitCertificates(svid.x509Svid)), key: encodePem('PRIVATE KEY', svid.x509SvidKey) }
  }
  const reads = async ({ body: { auth, errors } }: Awaited<ReturnType<typeof byJwt>>, what: string) => {
    t.ok(auth, `${what}: a token${errors === undefined ? '' : `: ${JSON.stringify(errors)}`}`)
    const secret = await vault.ask('GET', 'secret/web', { token: auth?.client_token ?? '' })
    t.match(secret, { status: 200, body: { data: { password: 'correct-horse' } } }, what)
    t.equal((await vault.ask('GET', 'secret/other', { token: auth?.client_token ?? '' })).status, 403, `${what}: and no other secret`)
  }
  const refused = ({ status, body }: Awaited<ReturnType<typeof byJwt>>, what: string) => {
    t.ok([400, 403].includes(status) && body.auth === undefined, `${what}: ${status} ${JSON.stringify(body.errors)}`)
  }

  const [oldJwt, oldX509] = [await fetchJwt('vault'), await ownX509()]
  await reads(await byJwt(oldJwt), 'by JWT-SVID')
  await reads(await byX509(oldX509), 'by X509-SVID')
  refused(await byJwt(await mintJwt('/api')), 'the JWT-SVID of another workload')
  refused(await byJwt(await fetchJwt('database')), 'a JWT-SVID for somebody else')
  const minted = async (path: string) => {
    const key = newKey()
    const csr = createCertificateRequest(key, { uriSans: [`spiffe://example.org${path}`] })
    const { svid } = await server.admin.client(svidService).mintX509SVID({ csr })
    return { cert: pem(svid?.certChain ?? []), key: String(key.export({ format: 'pem', type: 'pkcs8' })) }
  }
  refused(await byX509(await minted('/api')), 'the X509-SVID of another workload')
  refused(await byX509(web.issue(['localhost'])), 'a certificate of somebody else')

  const authorities = server.admin.client(localAuthorityService)
  const activeJwt = (await authorities.getJWTAuthorityState({})).active?.authorityId ?? ''
  const nextJwt = (await authorities.prepareJWTAuthority({})).preparedAuthority?.authorityId ?? ''
  const served = async () => (await ask('/keys', { port, ca: web.pem, host: 'localhost' })).text
  await eventually('the next key to be published', async () => (await served()).includes(nextJwt), 120_000)
  await authorities.activateJWTAuthority({ authorityId: nextJwt })
  await reads(await byJwt(await mintJwt('/web')), 'Vault was told nothing, and takes the next key')
  await authorities.taintJWTAuthority({ authorityId: activeJwt })
  await authorities.revokeJWTAuthority({ authorityId: activeJwt })
  await eventually('the old key to be gone', async () => !(await served()).includes(activeJwt), 120_000)
  const thirdJwt = (await authorities.prepareJWTAuthority({})).preparedAuthority?.authorityId ?? ''
  await eventually('a third key to be published', async () => (await served()).includes(thirdJwt), 120_000)
  await authorities.activateJWTAuthority({ authorityId: thirdJwt })
  await reads(await byJwt(await mintJwt('/web')), 'a third key')
  refused(await byJwt(oldJwt), 'what the revoked key signed, once Vault has looked at the keys again')

  const activeX509 = (await authorities.getX509AuthorityState({})).active?.authorityId ?? ''
  const nextX509 = (await authorities.prepareX509Authority({})).preparedAuthority?.authorityId ?? ''
  const push = async (body: object) => {
    const { body: { auth } } = await byJwt(await mintJwt('/vault-trust'), 'trust')
    return await vault.ask('POST', 'auth/cert/certs/web', { token: auth?.client_token ?? '', body })
  }
  t.ok((await push({ certificate: await roots() })).status < 300, 'a job brings the bundle, by its own JWT-SVID')
  t.equal((await push({ token_policies: ['root'] })).status, 403, 'and can give nobody more rights')
  await authorities.activateX509Authority({ authorityId: nextX509 })
  await authorities.taintX509Authority({ authorityId: activeX509 })
  await eventually('the SVID to be replaced', async () => (await ownX509()).cert !== oldX509.cert, 120_000)
  const newX509 = await ownX509()
  await reads(await byX509(newX509), 'below the next root')
  await reads(await byX509(oldX509), 'below the root before')
  await authorities.revokeX509Authority({ authorityId: activeX509 })
  t.ok((await push({ certificate: await roots() })).status < 300)
  refused(await byX509(oldX509), 'below a root that was revoked')
  await reads(await byX509(newX509), 'and the next one goes on')
})
