import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { eventually } from '../fakes/eventually.ts'
import { freePort } from '../fakes/free-port.ts'
import { MachineCa } from '../fakes/machine-ca.ts'
import { startServer, type AnyServer } from '../fakes/processes.ts'
import { startSpireAgent, startSpireServer, withoutSpireAgent, withoutSpireServer, type SpireServer } from '../fakes/spire.ts'
import { Administrator } from '../interop/administrator.ts'
import { mint, rootOf } from '../interop/nested-servers.ts'
import { machineProof, MovingNode } from './moving-node.ts'
import { MutualCalls, startParty } from './mutual-calls.ts'
import { Operator, patienceMs } from './operator.ts'

const skip = withoutSpireServer || withoutSpireAgent
t.setTimeout(600_000)
if (skip !== false) t.comment(`takeover with a server below: skipped: ${skip}`)

const domain = 'spiffe://example.org'
const [web, site, inner] = ['web', 'site', 'inner'].map(name => `${domain}/${name}`) as [string, string, string]

/** A real SPIRE server below whichever server it has the address of; it keeps its data, its keys and its port. */
class ServerBelow implements AsyncDisposable {
  readonly #folder: string
  readonly #socket: string
  readonly #port: number
  #server: SpireServer | undefined

  private constructor (folder: string, socket: string, port: number) {
    this.#folder = folder
    this.#socket = socket
    this.#port = port
  }

  /** @param socket of the agent beside it */
  static async create (folder: string, socket: string): Promise<ServerBelow> {
    await mkdir(folder)
    return new ServerBelow(folder, socket, await freePort())
  }

  async runBelow (above: AnyServer): Promise<SpireServer> {
    await this[Symbol.asyncDispose]()
    const [server_address, server_port] = above.address.split(':')
    this.#server = await startSpireServer({
      // Short, so that new ones are seen; not so short that one ends while the server begins anew on a slow machine.
      folder: this.#folder, port: this.#port, config: { default_x509_svid_ttl: '60s' },
      upstream: { server_address, server_port, workload_api_socket: this.#socket }
    })
    return this.#server
  }

  async [Symbol.asyncDispose] (): Promise<void> {
    const server = this.#server
    this.#server = undefined
    await server?.[Symbol.asyncDispose]()
  }
}

await t.test('a real SPIRE server below a real SPIRE server goes on below ours, and back', { skip, timeout: 600_000 }, async t => {
  await using scope = new AsyncDisposableStack()
  const folder = await mkdtemp(join(tmpdir(), 'assay-takeover-'))
  scope.defer(() => rm(folder, { recursive: true, force: true }))
  const ca = await MachineCa.create('CN=Company CA')
  const attestor = { ca_bundle_path: join(folder, 'roots.pem') }
  await writeFile(attestor.ca_bundle_path, ca.pem)
  const spire = scope.use(await startSpireServer({ nodeAttestors: { x509pop: attestor } }))
  const ours = scope.use(await startServer({ blocks: { plugins: { NodeAttestor: { x509pop: { plugin_data: attestor } } } } }))
  const [there, here] = [scope.use(new Administrator(spire)), scope.use(new Administrator(ours))]
  const start = async (name: string) => {
    const proof = await machineProof(ca, join(folder, name), name)
    const node = scope.use(await MovingNode.create(join(folder, name), proof))
    await node.runSpires(spire, proof)
    return { node, proof }
  }
  // The server below has a node of its own, whose agent gives it nothing but the downstream identity.
  const [upper, beside] = [await start('upper'), await start('beside')]
  await there.register(web, upper.node.id)
  await there.register(site, beside.node.id, { downstream: true })
  const nested = scope.use(await ServerBelow.create(join(folder, 'below'), beside.node.socket))
  const below = await nested.runBelow(spire)
  const atSite = scope.use(new Administrator(below))
  const agent = scope.use(await startSpireAgent(below))
  await atSite.register(inner, agent.id)

  const parties = await Promise.all([startParty(upper.node.socket, web), startParty(agent.socket, inner)])
  const calls = scope.use(new MutualCalls(parties))
  const verified = (when: string) => calls.verify(t, `above and below works ${when}`)
  const activeAt = async ({ authorities }: Administrator) => (await authorities.getX509AuthorityState({})).active?.authorityId ?? ''
  /** The server below gets its next CA, by which all its workloads' next SVIDs are signed, and signs tokens by its next key. */
  const renew = async (above: Administrator, when: string) => {
    const authorityId = (await atSite.authorities.prepareX509Authority({})).preparedAuthority?.authorityId ?? ''
    await atSite.authorities.activateX509Authority({ authorityId })
    const root = await activeAt(above)
    t.equal(rootOf(await mint(below)), root, `its CA is signed by who is above ${when}`)
    await eventually(`its workload to have an SVID below it ${when}`, () =>
      rootOf(parties[1]?.workload.given.chain ?? []) === root, patienceMs)
    const jwt = (await atSite.authorities.prepareJWTAuthority({})).preparedAuthority?.authorityId ?? ''
    await eventually(`its next JWT key at both servers above ${when}`, async () => {
      const bundles = await Promise.all([there, here].map(side => side.bundles.getBundle({})))
      return bundles.every(({ jwtAuthorities }) => jwtAuthorities.some(({ keyId }) => keyId === jwt))
    }, patienceMs)
    await atSite.authorities.activateJWTAuthority({ authorityId: jwt })
    await verified(when)
  }
  await verified('before')

  const operator = new Operator(spire, ours, join(folder, 'takeover.json'))
  const told = async () => {
    const [finding, ...more] = (await operator.status()).findings.filter(({ code }) => code === 'server-below')
    t.same([finding?.about, more], [site, []])
    return `${finding?.message}; ${finding?.next}`
  }
  t.match(await told(), new RegExp(`as known by ${beside.node.id}, which is at SPIRE`))
  t.equal((await operator.run('start', '-settle', '10')).code, 0)
  const keeper = operator.keepEqual()
  scope.defer(() => keeper.kill9())
  await operator.untilAgentsMayMove()
  await eventually('our root at the workload below', () => parties[1]?.workload.given.roots.length === 2, patienceMs)
  for (const { node, proof } of [upper, beside]) {
    t.equal(await node.runOurs(ours, proof), node.id)
    await operator.untilHere(node.id)
    await verified(`once ${node.id} is ours`)
  }
  t.match(await told(), /which is here; before the takeover is finished give its upstream authority our server's address/)
  await renew(there, 'while SPIRE serves it by an SVID of ours')

  await nested.runBelow(ours)
  await verified('below our server')
  await renew(here, 'by our server')
  t.match(await operator.run('finish'), { code: 0 })
  t.equal(await keeper.stop(), 0)
  t.match(await told(), /with SPIRE's address still/)
  await verified('at the end')

  t.match(await operator.run('rollback'), { code: 4, stderr: /takeover_agents_moved/ })
  const again = operator.keepEqual()
  scope.defer(() => again.kill9())
  for (const { node, proof } of [beside, upper]) {
    await node.runSpires(spire, proof)
    await verified(`once ${node.id} is SPIRE's again`)
  }
  await nested.runBelow(spire)
  await renew(there, 'by SPIRE again')
  await operator.untilNobodyIsHere()
  t.match(await operator.run('rollback'), { code: 0 })
  await again.stop()
  t.match(await told(), /gets no next CA: it is not known here any more; give its upstream authority SPIRE's address again/)
  t.equal((await here.entries.listEntries({})).entries.length, 0)
  await verified('after the way back')

  // What that says: with our address it goes on with what it has, and gets no more.
  await nested.runBelow(ours)
  await t.rejects(atSite.authorities.prepareX509Authority({}), /./)
  await verified('still')
  t.comment(`${calls.handshakes} handshakes`)
})
