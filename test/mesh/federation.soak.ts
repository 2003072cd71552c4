import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { text as readText } from 'node:stream/consumers'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { encodePem } from '../../src/x509/pem.ts'
import { until } from '../fakes/envoy.ts'
import { type Identity, pemOf } from '../fakes/forge.ts'
import { noNamespaces, PodNetwork } from '../fakes/pods.ts'
import { chooseSeed, Random } from '../fakes/random.ts'
import { SkippingClock } from '../fakes/skipping-clock.ts'
import { createWebCa } from '../federation/web-ca.ts'
import type { FrontMode } from './bundle-front.ts'
import { FederatedDomain, patienceMs } from './federated-domain.ts'
import { FederationLoad } from './federation-load.ts'

const skip = noNamespaces()
const seconds = Number(process.env['SOAK_SECONDS'] ?? 90)
/**
 * Each has a server, an agent, an Envoy and a workload: two cores carry six while requests run. At least four, so that others know each by
 * both profiles.
 */
const count = Number(process.env['FEDERATION_DOMAINS'] ?? 6)
const [minute, hour] = [60_000, 3_600_000]
const mtlsPeer = join(import.meta.dirname, '../fakes/mtls-peer.mjs')

/** All domains, and the one time that their servers live by. */
class World {
  readonly domains: readonly FederatedDomain[]
  readonly load: FederationLoad
  readonly #clock: SkippingClock
  readonly #network: PodNetwork
  readonly #folder: string

  constructor (domains: readonly FederatedDomain[], clock: SkippingClock, network: PodNetwork, folder: string) {
    this.domains = domains
    this.load = new FederationLoad(domains)
    this.#clock = clock
    this.#network = network
    this.#folder = folder
  }

  othersOf (domain: FederatedDomain): FederatedDomain[] { return this.domains.filter(other => other !== domain) }

  /** Time passes, in steps in which whoever polls is answered. */
  async pass (ms: number): Promise<void> {
    for (let passed = 0; passed < ms; passed += 20 * minute) {
      this.#clock.skip(20 * minute)
      // Those who woke have to connect before it can be seen that they do.
      for (let idle = 0; idle < 3;) {
        await new Promise(resolve => setTimeout(resolve, 10))
        idle = this.domains.some(({ front }) => front.busy) ? 0 : idle + 1
      }
    }
  }

  /** Until all others know so many roots of a domain, which they learn by polling, and their Envoys too. */
  async known (domain: FederatedDomain, roots: number): Promise<void> {
    const before = this.othersOf(domain).map(other => ({ other, all: other.applied('ALL'), peers: other.applied(other.peers) }))
    const know = async () => (await this.#knowledge(domain)).every(text => text.endsWith(`/${roots}`))
    for (let hours = 0; !await know(); hours++) {
      if (hours === 24) throw new Error(`after a day others know ${(await this.#knowledge(domain)).join()} of ${domain.name}`)
      await this.pass(hour)
    }
    await Promise.all(before.flatMap(({ other, all, peers }) => [other.hasApplied('ALL', all), other.hasApplied(other.peers, peers)]))
  }

  async #knowledge (domain: FederatedDomain): Promise<string[]> {
    return await Promise.all(this.othersOf(domain).map(other => other.knows(domain)))
  }

  /** Others find a domain's endpoint so for a while, and go on with what they know. */
  async meets (t: Test, domain: FederatedDomain, mode: FrontMode, ms: number): Promise<void> {
    const before = await this.#knowledge(domain)
    const met = domain.front.met.get(mode) ?? 0
    domain.become(mode)
    await this.pass(ms)
    t.strictSame(await this.#knowledge(domain), before, `${domain.name} ${mode}: the last good bundle stays in force`)
    t.ok((domain.front.met.get(mode) ?? 0) > met, 'and somebody has asked')
    domain.become('passes on')
  }

  /** One who calls from a program of its own, on an overbooked machine, may need more than one try; the load has none. */
  async letsIn (identity: Identity, domain: FederatedDomain): Promise<void> {
    await until('an SVID to be accepted', () => this.isLetIn(identity, domain), patienceMs)
  }

  /** Whether somebody with this SVID is answered by a domain's workload, from outside, by mTLS. */
  async isLetIn (identity: Identity, domain: FederatedDomain): Promise<boolean> {
    const folder = await mkdtemp(join(this.#folder, 'peer-'))
    await Promise.all([
      writeFile(join(folder, 'svid.pem'), pemOf(identity)),
      writeFile(join(folder, 'key.pem'), encodePem('PRIVATE KEY', identity.privateKey)),
      // Not the server is on trial here.
      writeFile(join(folder, 'ca.pem'), '')
    ])
    const words = [process.execPath, '--no-warnings', mtlsPeer, 'call', domain.podAddress, '8080', folder]
    const child = this.#network.spawnIn(undefined, 'env', 'NODE_TLS_REJECT_UNAUTHORIZED=0', ...words)
    const { status, error } = JSON.parse(await readText(child.stdout!)) as { status?: number, error?: string }
    // On an overbooked machine; that nobody has answered is not that somebody has refused.
    if (error === 'timeout') return await this.isLetIn(identity, domain)
    return status === 200
  }
}

/** Each knows each: what has to come up grows faster than they do. */
const comingUp = 1_440 * Math.max(1, count / 6) ** 2
t.setTimeout((seconds + comingUp + 60) * 1_000)
await t.test(`${count} trust domains, each federated with each other, for ${seconds} s`, {
  skip, timeout: (seconds + comingUp) * 1_000
}, async t => {
  const random = new Random(chooseSeed())
  await using scope = new AsyncDisposableStack()
  const folder = await mkdtemp(join(tmpdir(), 'federation-'))
  scope.defer(() => rm(folder, { recursive: true, force: true }))
  const network = scope.use(await PodNetwork.open())
  const webCa = await createWebCa()
  const webCaPath = join(folder, 'web-ca.pem')
  await writeFile(webCaPath, webCa.root)
  const clock = new SkippingClock(150 * 24 * hour)
  const domains: FederatedDomain[] = []
  for (let index = 0; index < count; index++) {
    domains.push(scope.use(await FederatedDomain.open({ index, network, clock, webCa, webCaPath })))
  }
  const world = new World(domains, clock, network, folder)
  for (const domain of domains) await domain.joinAll(world.othersOf(domain))
  await world.load.allReached()
  t.comment('all reach all')

  const end = performance.now() + seconds * 1_000
  let rounds = 0
  {
    await using running = world.load.start()
    while (rounds === 0 || performance.now() < end && clock.behindMs > 10 * 24 * hour) {
      rounds++
      await round(t, world, random)
    }
    await running[Symbol.asyncDispose]()
  }
  const { calls, failed, accepted, unjudged } = world.load
  const days = (150 - clock.behindMs / 24 / hour).toFixed(1)
  t.comment(`${rounds} rounds, ${days} days by the servers' clock, ${calls} calls, ${unjudged} while rights changed`)
  t.ok(calls > 20 * count, 'there was load')
  t.strictSame(failed, [], 'none failed that should work')
  t.strictSame(accepted, [], 'none was accepted that should not be')
  const refused = await Promise.all(domains.map(domain => domain.refusedHandshakes()))
  t.comment(`the Envoys refused ${refused.join(', ')} handshakes`)
})

/** What happens to one domain, and to one pair, in some two days. */
async function round (t: Test, world: World, random: Random): Promise<void> {
  const domain = random.pick(world.domains)
  const other = random.pick(world.othersOf(domain))
  const old = await domain.mint()
  await domain.front.keep()
  await world.letsIn(old, other)
  t.pass('an SVID of a partner is accepted')

  const { active } = await domain.authorities.getX509AuthorityState({})
  const prepared = (await domain.authorities.prepareX509Authority({})).preparedAuthority?.authorityId ?? ''
  await world.known(domain, 2)
  const before = domain.applied(domain.id)
  await domain.authorities.activateX509Authority({ authorityId: prepared })
  await domain.authorities.taintX509Authority({ authorityId: active?.authorityId ?? '' })
  await domain.hasApplied(domain.id, before)
  await world.letsIn(old, other)
  t.pass('what the old root has signed is accepted as long as the root is published')
  await domain.authorities.revokeX509Authority({ authorityId: active?.authorityId ?? '' })
  await world.known(domain, 1)
  t.notOk(await world.isLetIn(old, other), 'and not once it is withdrawn')

  await world.meets(t, domain, 'repeats an old bundle', 3 * hour)
  t.notOk(await world.isLetIn(old, other), 'a bundle of before brings it back nowhere')
  await world.meets(t, domain, 'shows an expired certificate', 3 * hour)
  await world.meets(t, domain, 'is dead', 24 * hour)
  const present = await domain.mint()
  await world.letsIn(present, other)
  t.pass('what the new root has signed is accepted')

  await world.load.cut(domain, other, async () => {
    const peers = other.applied(other.peers)
    await other.partFrom(domain)
    await other.hasApplied(other.peers, peers)
  })
  t.notOk(await world.isLetIn(present, other), 'nobody of a domain gets in with which a relationship has ended')
  await world.load.refusedOnce(domain, other)
  await world.load.mend(domain, other, async () => {
    await other.relateTo(domain)
    await other.federateWith(world.othersOf(other))
  })
  await world.letsIn(present, other)
  t.pass('and is let in again when it has begun anew')
}
