import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { ourAttestors } from '../../src/cli/takeover/our-attestors.ts'
import { lockTakeover } from '../../src/cli/takeover/takeover-lock.ts'
import { openUnixChannel } from '../../src/rpc/channel.ts'
import { RpcError } from '../../src/rpc/rpc-error.ts'
import { systemClock } from '../../src/runtime/clock.ts'
import { readJournal } from '../../src/takeover/journal.ts'
import { Takeover } from '../../src/takeover/takeover.ts'
import { eventually } from '../fakes/eventually.ts'
import { startTestServer, type TestServer } from '../fakes/server.ts'
import { entry, Side } from './side.ts'

t.setTimeout(240_000)
const { signal } = new AbortController()
const attestors = await ourAttestors()
const folder = await mkdtemp(join(tmpdir(), 'assay-takeover-'))
t.teardown(() => rm(folder, { recursive: true, force: true }))

/** A server that goes away and comes back with its data, its keys and its socket. */
class Returning implements AsyncDisposable {
  readonly #folder: string
  #server: TestServer | undefined

  private constructor (folder: string) { this.#folder = folder }

  static async start (name: string): Promise<Returning> {
    const server = new Returning(await mkdtemp(join(folder, name)))
    await server.comeBack()
    return server
  }

  async comeBack (): Promise<void> { this.#server = await startTestServer({ folder: this.#folder }) }
  get adminSocket (): string { return (this.#server as TestServer).config.socketPath }

  async goAway (): Promise<void> {
    await this.#server?.[Symbol.asyncDispose]()
  }

  async [Symbol.asyncDispose] (): Promise<void> { await this.goAway() }
}

for (const lost of ['SPIRE\'s server', 'our server'] as const) {
  await t.test(`${lost} is lost between any two steps: nothing changes meanwhile, and it goes on or back afterwards`, async t => {
    for (const rollBackIn of ['publishing', 'open', 'finished'] as const) {
      await using scope = new AsyncDisposableStack()
      const [there, ours] = [scope.use(await Returning.start('spire-')), scope.use(await Returning.start('ours-'))]
      const [spires, own] = [scope.use(new Side(there)), scope.use(new Side(ours))]
      const [thereChannel, oursChannel] = [scope.use(openUnixChannel(there.adminSocket)), scope.use(openUnixChannel(ours.adminSocket))]
      const file = join(await mkdtemp(join(folder, 'state-')), 'takeover.json')
      const takeover = new Takeover({
        there: thereChannel, ours: oursChannel, file, lock: () => lockTakeover(file, signal), clock: systemClock, attestors, signal
      })
      const [gone, other] = lost === 'our server' ? [ours, spires] : [there, own]
      const stateOf = async () =>
        [await other.contents(), await other.partners(), await other.authorityNames(), await readFile(file, 'utf8')]
      /** Every command fails and changes nothing. */
      const away = async () => {
        const before = await stateOf()
        await gone.goAway()
        for (const command of [() => takeover.round(), () => takeover.finish(), () => takeover.rollBack({ force: true })]) {
          const failure: unknown = await command().catch((error: unknown) => error)
          t.ok(failure instanceof RpcError && failure.status === 'UNAVAILABLE', `${rollBackIn}: a command without it`)
        }
        t.same(await stateOf(), before, `${rollBackIn}: and nothing has changed`)
        await gone.comeBack()
        // Who was refused waits a little before it connects again.
        await eventually('it to answer', () => takeover.look().then(() => true, () => false), 60_000)
        await eventually('it to answer its administrator', () =>
          (gone === ours ? own : spires).contents().then(() => true, () => false), 60_000)
      }
      await spires.fill()
      await own.add(entry('own'))
      const [wanted, before] = [await spires.contents(), await own.contents()]
      await takeover.round({ begin: true, settleMs: rollBackIn === 'publishing' ? 3_600_000 : 0 })
      await away()
      await takeover.round()
      t.equal((await readJournal(file))?.phase, rollBackIn === 'publishing' ? 'publishing' : 'open')
      if (rollBackIn === 'finished') {
        await takeover.finish()
        await away()
        t.same(await own.contents(), [...wanted, ...before].toSorted())
      }
      await takeover.rollBack()
      t.same(await own.partners(), [])
      t.same(await own.contents(), rollBackIn === 'finished' ? [] : before, 'what was copied is gone')
      t.same(await spires.contents(), rollBackIn === 'finished' ? [...wanted, ...before].toSorted() : wanted, 'SPIRE has all')
    }
  })
}
