import t, { type Test } from 'tap'
import { openUnixChannel, type Channel } from '../../src/rpc/channel.ts'
import { localAuthorityService } from '../../src/wire/generated/server-local-authority.ts'
import { workloadService } from '../../src/wire/generated/workload.ts'
import { firstOf } from '../../src/runtime/first-of.ts'
import { parseCertificate } from '../../src/x509/certificate.ts'
import { verifyX509Svid } from '../../src/x509/verify-svid.ts'
import { eventually } from '../fakes/eventually.ts'
import { type AnyServer, startServer, type RunningAgent } from '../fakes/processes.ts'
import { runAssay } from '../fakes/run-assay.ts'
import { startSpireServer, withoutSpireServer } from '../fakes/spire.ts'
import { Administrator } from './administrator.ts'
import {
  bundleOf, mint, patienceMs, rootOf, rootOfAgent, startAgentFor, startBelow
} from './nested-servers.ts'
import { NestedWorkload } from './nested-workload.ts'

const seconds = Number(process.env['SOAK_SECONDS'] ?? 15)
t.setTimeout((2 * seconds + 800) * 1_000)
if (withoutSpireServer !== false) t.comment(`a real SPIRE server on top: skipped: ${withoutSpireServer}`)

/** From the top down; a workload at each. */
interface Level { readonly server: AnyServer, readonly agent: RunningAgent, readonly workload: NestedWorkload }

async function openLevels (scope: AsyncDisposableStack, top: AnyServer): Promise<readonly Level[]> {
  const levels: Level[] = []
  for (const name of ['one', 'two', 'three']) {
    const above = levels.at(-1)
    const server = above === undefined ? top : scope.use(await startBelow(above.server, above.agent))
    const agent = scope.use(await startAgentFor(server, name))
    levels.push({ server, agent, workload: scope.use(await NestedWorkload.start(agent)) })
  }
  return levels
}

const keyIdOf = (certificate: Uint8Array) => Buffer.from(parseCertificate(certificate).subjectKeyId ?? []).toString('hex')

/** What everybody tries of everybody, over and over, until it is told to stop. */
class Load {
  readonly #levels: readonly Level[]
  readonly #running: Promise<unknown>
  #stopped = false
  readonly failures: string[] = []
  handshakes = 0
  minted = 0

  constructor (levels: readonly Level[]) {
    this.#levels = levels
    this.#running = Promise.all(levels.map((level, index) => Promise.all([this.#call(level, index), this.#mint(level, index)])))
  }

  async stop (): Promise<void> {
    this.#stopped = true
    await this.#running
  }

  /** mTLS to the workloads of all levels, its own too. */
  async #call ({ workload }: Level, from: number): Promise<void> {
    while (!this.#stopped) {
      for (const [to, other] of this.#levels.entries()) {
        await workload.call(other.workload).catch((error: Error) => { this.failures.push(`handshake ${from} to ${to}: ${error.message}`) })
        this.handshakes++
      }
    }
  }

  /** What a server signs now is judged by what the workloads of all levels were given. */
  async #mint ({ server }: Level, from: number): Promise<void> {
    while (!this.#stopped) {
      try {
        const chain = await mint(server)
        for (const [to, { workload }] of this.#levels.entries()) this.#judge(chain, workload, `minted ${from}, judged ${to}`)
      } catch (error) {
        this.failures.push(`minting ${from}: ${(error as Error).message}`)
      }
      this.minted++
      await new Promise(resolve => setTimeout(resolve, 20))
    }
  }

  #judge (chain: readonly Uint8Array[], { given }: NestedWorkload, what: string): void {
    const x509Authorities = given.roots.map(certificate => ({ certificate, tainted: false }))
    try {
      verifyX509Svid(chain, { bundleOf: trustDomain => ({ trustDomain, x509Authorities, jwtAuthorities: [] }), at: new Date() })
    } catch (error) {
      this.failures.push(`${what}: ${(error as Error).message}`)
    }
  }
}

const authoritiesOf = (channel: Channel) => channel.client(localAuthorityService)

/** What an operator does at the top, and in between waits for everybody. */
interface RootSteps {
  /** @returns key identifiers of the root that goes and of the one that comes */
  prepare (): Promise<{ readonly before: string, readonly after: string }>
  /** The next root signs, and what the one before signed is replaced. */
  takeOver (before: string, after: string): Promise<void>
  revoke (before: string): Promise<void>
}

/** One call after the other, as SPIRE's server knows them too. */
function byCalls ({ adminSocket }: AnyServer, mintAtTop: () => Promise<string>): RootSteps {
  const call = async <T> (use: (authorities: ReturnType<typeof authoritiesOf>) => Promise<T>): Promise<T> => {
    await using channel = openUnixChannel(adminSocket)
    return await use(authoritiesOf(channel))
  }
  return {
    prepare: () => call(async authorities => ({
      before: (await authorities.getX509AuthorityState({})).active?.authorityId ?? '',
      after: (await authorities.prepareX509Authority({})).preparedAuthority?.authorityId ?? ''
    })),
    takeOver: (before, after) => call(async authorities => {
      await authorities.activateX509Authority({ authorityId: after })
      await eventually('the top to sign by the new root', async () => await mintAtTop() === after, patienceMs)
      await authorities.taintX509Authority({ authorityId: before })
    }),
    revoke: before => call(async authorities => { await authorities.revokeX509Authority({ authorityId: before }) })
  }
}

/** `assay rotate`, which stops wherever somebody has to look at the levels below. */
function byCommand (t: Test, { adminSocket }: AnyServer): RootSteps {
  const run = async (code: number, ...words: string[]) => {
    const { stderr, code: ended } = await runAssay(['rotate', '-compromised', 'x509', ...words, '-socketPath', adminSocket])
    t.equal(ended, code, stderr)
    if (code === 3) t.match(stderr, /servers below this one cannot be waited for/)
  }
  return {
    async prepare () {
      await run(3)
      await using channel = openUnixChannel(adminSocket)
      const { active, prepared } = await authoritiesOf(channel).getX509AuthorityState({})
      return { before: active?.authorityId ?? '', after: prepared?.authorityId ?? '' }
    },
    takeOver: before => run(3, '-authorityID', before, '-downstreamReady'),
    revoke: before => run(0, '-authorityID', before, '-downstreamReady')
  }
}

/** As docs/upstream-authorities.md tells an operator to replace the top's root: each step once everybody has the one before. */
async function replaceTopRoot (levels: readonly Level[], steps: RootSteps, t: Test): Promise<void> {
  const began = performance.now()
  const told: string[] = []
  const tell = (what: string) => told.push(`${what} after ${Math.round(performance.now() - began)} ms`)
  const { before, after } = await steps.prepare()
  const knows = ({ workload }: Level, root: string) => workload.given.roots.some(certificate => keyIdOf(certificate) === root)
  await eventually('workloads of all levels to know the new root', () => levels.every(level => knows(level, after)), patienceMs)
  tell('known everywhere')
  await steps.takeOver(before, after)
  await eventually('all servers, agents and workloads to be below the new root', async () => {
    if (!levels.every(({ workload }) => rootOf(workload.given.chain) === after)) return false
    if (!(await Promise.all(levels.map(({ agent }) => rootOfAgent(agent)))).every(root => root === after)) return false
    return (await Promise.all(levels.map(async ({ server }) => rootOf(await mint(server))))).every(root => root === after)
  }, patienceMs)
  tell('replaced everywhere')
  await steps.revoke(before)
  await eventually('the old root to be gone everywhere', () => levels.every(level => !knows(level, before)), patienceMs)
  tell('gone everywhere')
  t.comment(`root ${after.slice(0, 8)}: ${told.join(', ')}`)
}

/** That servers and agents still hear each other, by an entry which reaches the workload. */
async function stillHear ({ server, agent, workload }: Level): Promise<boolean> {
  await using administrator = new Administrator(server)
  const id = await administrator.register(`${workload.given.id}/later`, agent.id)
  await using channel = openUnixChannel(agent.socket)
  const svids = async () => await firstOf(channel.client(workloadService).fetchX509SVID({}, { metadata: { 'workload.spiffe.io': 'true' } }))
  await eventually('a new entry to arrive', async () => (await svids())?.svids.length === 2, patienceMs)
  await administrator.unregister(id)
  return true
}

async function prove (t: Test, levels: readonly Level[], steps: RootSteps): Promise<void> {
  for (const [index, { workload }] of levels.entries()) t.equal(workload.given.chain.length, index + 1, 'a CA more at each level')
  const load = new Load(levels)
  const end = performance.now() + seconds * 1_000
  let rounds = 0
  try {
    do {
      await replaceTopRoot(levels, steps, t)
      rounds++
    } while (performance.now() < end)
  } finally {
    await load.stop()
  }
  const { failures, handshakes, minted } = load
  t.comment(`${rounds} roots, ${handshakes} handshakes, ${minted} minted SVIDs: ${failures.length} failed`)
  for (const failure of failures.slice(0, 10)) t.comment(failure)
  t.equal(failures.length, 0, 'nothing failed')
  t.ok(handshakes > 9 * rounds && minted > 9 * rounds, 'there was load')
  t.same(levels.map(({ workload }) => workload.broken), [undefined, undefined, undefined], 'no agent ended its stream')
  for (const level of levels) t.ok(await stillHear(level))
  t.same((await Promise.all(levels.map(({ server }) => bundleOf(server)))).map(({ x509Authorities }) => x509Authorities.length), [1, 1, 1])
}

/** The measure is not idle: who takes the old root away before it is replaced below breaks the tree. */
async function hurry (t: Test, levels: readonly Level[]): Promise<void> {
  const [{ server: top }] = levels as [Level]
  await using channel = openUnixChannel(top.adminSocket)
  const authorities = channel.client(localAuthorityService)
  const before = (await authorities.getX509AuthorityState({})).active?.authorityId ?? ''
  const after = (await authorities.prepareX509Authority({})).preparedAuthority?.authorityId ?? ''
  const load = new Load(levels)
  try {
    await authorities.activateX509Authority({ authorityId: after })
    await authorities.taintX509Authority({ authorityId: before })
    await authorities.revokeX509Authority({ authorityId: before })
    await eventually('something to fail', () => load.failures.length > 0, patienceMs)
  } finally {
    await load.stop()
  }
  t.pass(`in a hurry ${load.failures.length} of ${load.handshakes} handshakes and ${load.minted} minted SVIDs failed`)
}

await t.test('the root of three levels is replaced under load', { timeout: (seconds + 400) * 1_000 }, async t => {
  await using scope = new AsyncDisposableStack()
  const top = scope.use(await startServer())
  const levels = await openLevels(scope, top)
  await prove(t, levels, byCommand(t, top))
  await hurry(t, levels)
})

await t.test('the same with a real SPIRE server on top', { skip: withoutSpireServer, timeout: (seconds + 400) * 1_000 }, async t => {
  await using scope = new AsyncDisposableStack()
  const top = scope.use(await startSpireServer())
  await prove(t, await openLevels(scope, top), byCalls(top, async () => rootOf(await mint(top))))
})
