import { createLocalJWKSet, decodeProtectedHeader, type JSONWebKeySet, jwtVerify } from 'jose'
import t from 'tap'
import { openUnixChannel } from '../../src/rpc/channel.ts'
import { workloadService } from '../../src/wire/generated/workload.ts'
import { eventually } from '../fakes/eventually.ts'
import { startAgent, startServer } from '../fakes/processes.ts'
import { Administrator } from '../interop/administrator.ts'
import { ask, type AskOptions } from './ask.ts'
import { startProvider } from './provider-process.ts'
import { CertificateFolder, WebAuthority } from './web-certificate.ts'

const seconds = Number(process.env['SOAK_SECONDS'] ?? 90)
const web = new WebAuthority()
const id = 'spiffe://example.org/vault-client'

/** A cache that obeys `max-age`, and asks only when it must. */
class CachedKeys {
  readonly #reach: AskOptions
  #kept: { readonly jwks: JSONWebKeySet, readonly untilMs: number } | undefined
  fetches = 0

  constructor (reach: AskOptions) { this.#reach = reach }

  async get (): Promise<JSONWebKeySet> {
    if (this.#kept !== undefined && performance.now() < this.#kept.untilMs) return this.#kept.jwks
    const askedAtMs = performance.now()
    const { status, text, headers } = await ask('/keys', this.#reach)
    if (status !== 200) throw new Error(`${status} ${text}`)
    const [, maxAge = '0'] = /max-age=(\d+)/.exec(headers['cache-control'] ?? '') ?? []
    this.fetches++
    this.#kept = { jwks: JSON.parse(text) as JSONWebKeySet, untilMs: askedAtMs + Number(maxAge) * 1_000 }
    return this.#kept.jwks
  }
}

void t.test('while a server rotates by itself, each token that workloads get verifies by copies kept as long as told', async t => {
  const caTtlSeconds = 60
  await using server = await startServer({ config: { ca_ttl: `${caTtlSeconds}s` } })
  await using agent = await startAgent({ server, config: { jwt_svid_cache_max_size: 1 } })
  await using admin = new Administrator(server)
  await admin.register(id, agent.id)
  await using channel = openUnixChannel(agent.socket)
  const workload = channel.client(workloadService)
  using files = new CertificateFolder(web.issue(['oidc.example.org']))
  const { reach } = await startProvider(t, files, web, `server_api { address = "unix://${server.adminSocket}" poll_interval = "200ms" }`)
  const metadata = { 'workload.spiffe.io': 'true' }
  const isGranted = () => workload.fetchJWTSVID({ audience: ['vault'], spiffeId: id }, { metadata }).then(() => true, () => false)
  await eventually('the agent knows the workload', isGranted)
  await eventually('keys are served', async () => (await ask('/keys', reach)).status === 200)
  const cache = new CachedKeys(reach)
  const kids = new Set<string | undefined>()
  let [tokens, failed] = [0, 0]
  const end = performance.now() + seconds * 1_000
  while (performance.now() < end) {
    const { svids } = await workload.fetchJWTSVID(
      { audience: ['vault', `${tokens}`], spiffeId: id }, { metadata })
    const token = svids[0]?.svid ?? ''
    tokens++
    kids.add(decodeProtectedHeader(token).kid)
    await jwtVerify(token, createLocalJWKSet(await cache.get()), { audience: 'vault', subject: id }).catch((error: Error) => {
      failed++
      t.comment(error.message)
    })
    await new Promise(resolve => setTimeout(resolve, 50))
  }
  t.comment(`${tokens} tokens by ${kids.size} keys, ${cache.fetches} fetches of them`)
  t.equal(failed, 0)
  t.ok(kids.size >= Math.floor(seconds / (caTtlSeconds * 0.45)), 'keys did change')
  t.ok(cache.fetches < tokens / 5, 'most tokens were judged by a copy')
})
