import t from 'tap'
import { limitWorkloads, workloadRateLimitsSchema, type LimitDeps } from '../../src/agent/workload-rate-limits.ts'
import { parseSelector } from '../../src/spiffe/selector.ts'
import { firstOf } from '../../src/runtime/first-of.ts'
import { codeOf } from '../../src/spiffe/errors.ts'
import { workloadService } from '../../src/wire/generated/workload.ts'
import { startTestAgent, securityHeader } from '../fakes/agent.ts'
import { fakeCall } from '../fakes/call-context.ts'
import { ManualClock } from '../fakes/clock.ts'
import { eventually } from '../fakes/eventually.ts'
import { freePort } from '../fakes/free-port.ts'
import { startTestServer } from '../fakes/server.ts'

const sds = '/envoy.service.secret.v3.SecretDiscoveryService'
const x509 = '/SpiffeWorkloadAPI/FetchX509SVID'

function limiter (limits: object) {
  const clock = new ManualClock()
  let selectors: readonly string[] = []
  const refused: string[] = []
  const deps: LimitDeps = { clock, attest: async () => selectors.map(parseSelector), onLimited: method => refused.push(method) }
  const attest = limitWorkloads(workloadRateLimitsSchema.parse(limits), deps)
  const ask = async (method: string, ...found: string[]) => {
    selectors = found
    return await attest({ ...fakeCall(), method }).then(() => 'ok', codeOf)
  }
  return { clock, attest, ask, refused }
}

t.test('workloads with the same selectors share a limit (spire-surface §6.3)', async t => {
  const { clock, attest, ask, refused } = limiter({ fetch_x509_svid: 2, fetch_jwt_svid: 0 })
  for (const answer of ['ok', 'ok', 'workload_rate_limited']) t.equal(await ask(x509, 'unix:uid:1', 'unix:gid:1'), answer)
  t.equal(await ask(x509, 'unix:gid:1', 'unix:uid:1'), 'workload_rate_limited', 'in whatever order they were found')
  t.equal(await ask(x509, 'unix:uid:1'), 'ok', 'others have their own')
  for (const answer of ['ok', 'ok', 'workload_rate_limited']) t.equal(await ask(x509), answer, 'who is nobody shares one, too')
  for (let times = 0; times < 9; times++) t.equal(await ask('/SpiffeWorkloadAPI/FetchJWTSVID', 'unix:uid:1'), 'ok', '0: no limit')
  await clock.advance(499)
  t.equal(await ask(x509, 'unix:uid:1', 'unix:gid:1'), 'workload_rate_limited')
  await clock.advance(1)
  for (const answer of ['ok', 'workload_rate_limited']) t.equal(await ask(x509, 'unix:uid:1', 'unix:gid:1'), answer, 'half a second later')
  await clock.advance(60_000)
  for (const answer of ['ok', 'ok', 'workload_rate_limited']) t.equal(await ask(x509, 'unix:uid:1', 'unix:gid:1'), answer, 'after a pause')
  t.same(refused, Array(6).fill(x509), 'each refusal is told')
  await ask(x509)
  await ask(x509)
  await t.rejects(attest({ ...fakeCall(), method: x509 }), {
    message: `rate limit exceeded for ${x509}`, row: { status: 'UNAVAILABLE', retry: true }, retryAfterMs: 1000
  }, 'in SPIRE\'s words')
})

t.test('each key limits its methods, and no others', async t => {
  const methods = {
    fetch_x509_svid: [x509], fetch_jwt_svid: ['/SpiffeWorkloadAPI/FetchJWTSVID'],
    fetch_x509_bundles: ['/SpiffeWorkloadAPI/FetchX509Bundles'], fetch_jwt_bundles: ['/SpiffeWorkloadAPI/FetchJWTBundles'],
    stream_secrets: [`${sds}/StreamSecrets`, `${sds}/DeltaSecrets`], fetch_secrets: [`${sds}/FetchSecrets`]
  }
  for (const key of Object.keys(methods)) {
    for (const [other, [first = '', last = first]] of Object.entries(methods)) {
      const { ask } = limiter({ [key]: 1 })
      t.equal(await ask(first, 'a:b'), 'ok', `${key}: ${first}`)
      t.equal(await ask(last, 'a:b'), key === other ? 'workload_rate_limited' : 'ok', `${key}: ${last} again`)
    }
  }
  t.throws(() => workloadRateLimitsSchema.parse({ fetch_secrets: -1 }), /must not be negative/)
})

void t.test('an agent keeps to the limits it was given', async t => {
  const port = await freePort()
  await using server = await startTestServer()
  await using agent = await startTestAgent(server, { config: {
    rateLimits: workloadRateLimitsSchema.parse({ fetch_jwt_bundles: 1 }), allowUnauthenticatedVerifiers: true,
    prometheus: { host: '127.0.0.1', port }
  } })
  const workload = agent.workload.client(workloadService)
  const ask = (name: 'fetchJWTBundles' | 'fetchX509Bundles') =>
    firstOf<unknown>(workload[name]({}, securityHeader)).then(() => 'ok')
      .catch(({ status, message }: { status: string, message: string }) => `${status} ${message}`)
  await eventually('the agent to know its entries', async () => await ask('fetchX509Bundles') === 'ok')
  const answers: unknown[] = []
  // One each second is answered, however slow this machine is.
  await eventually('calls to come too soon', async () => {
    answers.push(...await Promise.all(Array.from({ length: 40 }, () => ask('fetchJWTBundles'))))
    return answers.some(answer => answer !== 'ok')
  })
  t.strictSame(new Set(answers), new Set(['ok', 'UNAVAILABLE rate limit exceeded for /SpiffeWorkloadAPI/FetchJWTBundles']))
  t.strictSame(new Set(await Promise.all(Array.from({ length: 40 }, () => ask('fetchX509Bundles')))), new Set(['ok']), 'others go on')
  const metrics = await fetch(`http://127.0.0.1:${port}/metrics`).then(answer => answer.text())
  const times = /^spire_agent_workload_api_rate_limit_exceeded\{.*method="_SpiffeWorkloadAPI_FetchJWTBundles".* (\d+)$/m.exec(metrics)?.[1]
  t.equal(Number(times), answers.filter(answer => answer !== 'ok').length)
})
