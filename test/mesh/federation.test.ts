import t from 'tap'
import { applyPolicies } from '../fakes/apply-policies.ts'
import { until } from '../fakes/envoy.ts'
import { noNamespaces, PodNetwork } from '../fakes/pods.ts'
import type { PodWorkload } from '../fakes/pod-workload.ts'
import { Site } from './sites.ts'

const skip = noNamespaces()
const service = '10.99.0.2'
const patienceMs = 60_000

const status = async (pod: PodWorkload) => (await pod.http(service, 80)).status
/** Whether what it says reaches the other one, and comes back. */
const says = async (pod: PodWorkload) => (await pod.tcp(service, 90)).body === 'b/web hello'

interface Call { readonly begin: number, readonly end: number, readonly passed: boolean }

/** Calls one after the other, each with a handshake of its own, until it is stopped. */
function startCalls (caller: PodWorkload) {
  const calls: Call[] = []
  const stop = new AbortController()
  const running = (async () => {
    for (let n = 0; !stop.signal.aborted; n++) {
      const begin = performance.now()
      // Bytes are never pooled: each connection of a workload is one between the proxies. Requests share some.
      const passed = n % 4 === 3 ? await status(caller) === 200 : await says(caller)
      calls.push({ begin, end: performance.now(), passed })
    }
  })()
  return {
    calls,
    async more (count: number) {
      const before = calls.length
      await until(`${count} more calls`, () => calls.length >= before + count, patienceMs)
    },
    async stop () {
      stop.abort()
      await running
    }
  }
}

void t.test('two trust domains with their own servers, agents and Envoys, federated with each other', {
  skip, timeout: 290_000
}, async t => {
  await using scope = new AsyncDisposableStack()
  const network = scope.use(await PodNetwork.open())
  const [a, b] = await Promise.all([
    Site.open({ network, name: 'a', address: '10.77.0.201' }), Site.open({ network, name: 'b', address: '10.77.0.202' })
  ]).then(sites => sites.map(site => scope.use(site)) as [Site, Site])
  await Promise.all([a.relateTo(b), b.relateTo(a)])
  const [client, other] = await Promise.all([
    a.pod('client', '10.77.0.2', [b]), a.pod('other', '10.77.0.3', [b]), b.pod('web', '10.77.0.4', [a])
  ])
  const spiffeIds = [b.id('/web')]
  await Promise.all([
    b.service({ name: 'web', address: service, spiffeIds, callers: { patterns: [a.id('/*')] } }),
    a.service({ name: 'web-of-b', address: service, spiffeIds, staticEndpoints: [{ address: '10.77.0.4' }] })
  ])
  const rules = [{ name: 'all', action: 'allow', from: [{ ids: [a.id('/*')] }] }]
  const policy = JSON.stringify({ apiVersion: 'assay/v1', kind: 'Policy', name: 'web', workloads: { ids: spiffeIds }, rules })
  const scopeDocument = JSON.stringify({
    apiVersion: 'assay/v1', kind: 'FederationScope', trustDomain: a.trustDomain, accept: [a.id('/client')], workloads: spiffeIds
  })

  await t.test('a scope lets in whom it names', async t => {
    await applyPolicies(b.admin, [policy])
    // 503 is no way there, and 403 the answer of a proxy that knows who calls.
    await until('the caller to be known and refused', async () => await status(client) === 403, patienceMs)
    t.notOk(await says(client), 'without a scope nothing of the other domain gets in, though a rule allows it')
    await applyPolicies(b.admin, [policy, scopeDocument], { replaces: 1n })
    await until('the caller to be let in', async () => await status(client) === 200, patienceMs)
    await until('bytes to be let in', () => says(client), patienceMs)
    const { body } = await client.http(service, 80)
    t.match(JSON.parse(body ?? '{}'), { name: 'b/web', xfcc: `URI=${a.id('/client')}` }, 'it learns who called, by mutual TLS')
    t.equal(await status(other), 403, 'somebody else of that domain is known and refused')
    t.notOk(await says(other))
  })

  await t.test('a root of the called domain is exchanged under requests', async t => {
    const load = startCalls(client)
    await load.more(4)
    const { active } = await b.authorities.getX509AuthorityState({})
    const old = active?.authorityId ?? ''
    const before = { ofA: a.applied('ALL'), ofB: b.applied(b.id('/web')) }
    const { preparedAuthority } = await b.authorities.prepareX509Authority({})
    await until('the prepared root to be with the partner', async () => await a.rootsOf(b) === 2, patienceMs)
    await a.hasApplied('ALL', before.ofA)
    await b.authorities.activateX509Authority({ authorityId: preparedAuthority?.authorityId ?? '' })
    await b.authorities.taintX509Authority({ authorityId: old })
    await b.hasApplied(b.id('/web'), before.ofB)
    await load.more(8)
    const both = a.applied('ALL')
    await b.authorities.revokeX509Authority({ authorityId: old })
    await until('the old root to be gone at the partner', async () => await a.rootsOf(b) === 1, patienceMs)
    await a.hasApplied('ALL', both)
    await load.more(8)
    await load.stop()
    t.strictSame(load.calls.filter(({ passed }) => !passed), [], `none of ${load.calls.length} calls failed`)
    await t.resolves(a.refresh(b), 'FED-28 and the endpoint shows what the new root has signed')
  })

  await t.test('FED-31 a relationship ends: the next handshake is refused', async t => {
    const load = startCalls(client)
    await load.more(4)
    const peers = `peers/${b.id('/web')}`
    const [before, refusals] = [b.applied(peers), await b.counted(/\.ssl\.fail_verify_error$/)]
    const ended = performance.now()
    await b.partFrom(a)
    await until('a call to be refused', () => load.calls.some(({ begin, passed }) => begin > ended && !passed), patienceMs)
    await b.hasApplied(peers, before)
    const known = performance.now()
    // Requests on connections that were open before go on for as long as those live.
    await load.stop()
    const first = load.calls.find(({ begin, passed }) => begin > ended && !passed)
    t.comment(`the first call was refused ${Math.round((first?.end ?? Infinity) - ended)} ms after the command`)
    const later: string[] = []
    for (let n = 0; n < 5; n++) later.push((await client.tcp(service, 90)).body ?? '')
    t.strictSame(later, ['', '', '', '', ''], `nobody is let in from then on (${Math.round(known - ended)} ms)`)
    t.ok(await b.counted(/\.ssl\.fail_verify_error$/) > refusals, 'it is the handshake that fails')
    t.strictSame([await b.rootsOf(a), await a.rootsOf(b)], [0, 1], 'FED-30 one side ends its own: the other one keeps what it has')

    await b.relateTo(a)
    await b.register('web', [a])
    await until('the caller to be let in again', () => says(client), patienceMs)
    t.equal(await status(other), 403, 'by the scope of before')
  })
})
