import { createRemoteJWKSet, customFetch, decodeProtectedHeader, jwtVerify } from 'jose'
import t from 'tap'
import { openUnixChannel } from '../../src/rpc/channel.ts'
import { localAuthorityService } from '../../src/wire/generated/server-local-authority.ts'
import { workloadService } from '../../src/wire/generated/workload.ts'
import { eventually } from '../fakes/eventually.ts'
import { startAgent, startServer } from '../fakes/processes.ts'
import { Administrator } from '../interop/administrator.ts'
import { ask, fetchBy } from './ask.ts'
import { startProvider } from './provider-process.ts'
import { CertificateFolder, WebAuthority } from './web-certificate.ts'

const id = 'spiffe://example.org/vault-client'
const issuer = 'https://oidc.example.org'
const web = new WebAuthority()

/** What a relying party has: the issuer's URL, and this library, which keeps nothing between two questions. */
async function discover (reach: { readonly port: number, readonly ca: string }) {
  const { text } = await ask('/.well-known/openid-configuration', reach)
  const document = JSON.parse(text) as { issuer: string, jwks_uri: string }
  const keys = createRemoteJWKSet(new URL(document.jwks_uri), { [customFetch]: fetchBy(reach), cacheMaxAge: 0, cooldownDuration: 0 })
  return { document, verify: (token: string) => jwtVerify(token, keys, { issuer: document.issuer, audience: 'vault', subject: id }) }
}

void t.test('tokens of real processes verify at each step of a rotation, by what the server and by what the agent says', async t => {
  await using server = await startServer({ config: { jwt_issuer: issuer } })
  await using agent = await startAgent({ server, config: { jwt_svid_cache_max_size: 1 } })
  await using admin = new Administrator(server)
  await admin.register(id, agent.id)
  await using workload = openUnixChannel(agent.socket)
  await using operator = openUnixChannel(server.adminSocket)
  const authorities = operator.client(localAuthorityService)
  using files = new CertificateFolder(web.issue(['oidc.example.org']))
  const issuing = `jwt_issuer = "${issuer}"`
  const health = 'health_checks { bind_address = "127.0.0.1" bind_port = 0 }\n telemetry { Prometheus { host = "127.0.0.1" port = 0 } }'
  const [ofServer, ofAgent] = await Promise.all([
    startProvider(t, files, web, `server_api { address = "unix://${server.adminSocket}" poll_interval = "200ms" }\n${issuing}\n${health}`),
    startProvider(t, files, web,
      `${issuing}\nworkload_api { socket_path = "${agent.socket}" trust_domain = "example.org" poll_interval = "1s" }`)
  ])
  const providers = [ofServer, ofAgent]

  let asked = 0
  /** By an audience of its own beside the wanted one each token is a new one: the agent keeps those it has. */
  const fetchToken = async () => {
    let token: string | undefined
    await eventually('the agent knows its entry', async () => {
      try {
        const audience = ['vault', `step-${asked++}`]
        const { svids } = await workload.client(workloadService).fetchJWTSVID(
          { audience, spiffeId: id }, { metadata: { 'workload.spiffe.io': 'true' } })
        token = svids[0]?.svid
      } catch (error) {
        if ((error as { status?: string }).status !== 'PERMISSION_DENIED') throw error
      }
      return token !== undefined
    })
    return token as string
  }
  const serves = async (kid: string, wanted: boolean) => {
    for (const { reach } of providers) {
      await eventually(`${kid} is ${wanted ? '' : 'not '}served`, async () => (await ask('/keys', reach)).text.includes(kid) === wanted)
    }
  }
  const verifies = async (step: string, token: string) => {
    for (const [name, { reach }] of Object.entries({ ofServer, ofAgent })) {
      const { verify } = await discover(reach)
      t.match((await verify(token)).payload, { sub: id, iss: issuer }, `${step}, ${name}`)
    }
  }

  const first = await fetchToken()
  const firstKid = String(decodeProtectedHeader(first).kid)
  await serves(firstKid, true)
  await verifies('at first', first)
  const { preparedAuthority } = await authorities.prepareJWTAuthority({})
  const nextKid = preparedAuthority?.authorityId ?? ''
  await serves(nextKid, true)
  const between = await fetchToken()
  t.equal(decodeProtectedHeader(between).kid, firstKid, 'the next key is public and signs nothing')
  await verifies('prepared', between)
  await authorities.activateJWTAuthority({ authorityId: nextKid })
  const after = await fetchToken()
  t.equal(decodeProtectedHeader(after).kid, nextKid)
  await verifies('activated: new token', after)
  await verifies('activated: old token', first)
  await authorities.taintJWTAuthority({ authorityId: firstKid })
  await verifies('tainted', await fetchToken())
  await authorities.revokeJWTAuthority({ authorityId: firstKid })
  await serves(firstKid, false)
  await verifies('revoked', await fetchToken())
  for (const { reach } of providers) {
    await t.rejects((await discover(reach)).verify(first), { code: 'ERR_JWKS_NO_MATCHING_KEY' }, 'what the revoked key signed is refused')
  }

  const { port: healthPort } = await ofServer.provider.logged('health checks are served')
  t.match(await ask('/ready', { port: Number(healthPort) }), { status: 200, text: '{"oidc.keys":"ok","oidc.certificate":"ok"}' })
  t.equal((await ask('/ready', ofServer.reach)).status, 404, 'not where the documents are')
  t.equal((await ask('/keys', { port: Number(healthPort) })).status, 404, 'and the other way round')

  await server.kill9()
  await ofServer.provider.logged('the source of the keys is away: the last good ones are served on')
  await verifies('the server is gone', after)
  files.write(new WebAuthority().issue(['oidc.example.org']))
  await ofAgent.provider.logged('new serving certificate taken over')
  await t.rejects(ask('/keys', ofAgent.reach), 'a new certificate by another authority')
  t.equal(await ofServer.provider.stop(), 0)
})
