import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { ourAttestors } from '../../src/cli/takeover/our-attestors.ts'
import { lockTakeover } from '../../src/cli/takeover/takeover-lock.ts'
import type { Channel } from '../../src/rpc/channel.ts'
import { systemClock } from '../../src/runtime/clock.ts'
import { readJournal } from '../../src/takeover/journal.ts'
import { Takeover } from '../../src/takeover/takeover.ts'
import { startTestServer, type TestServer } from '../fakes/server.ts'
import { entry, Side } from './side.ts'

t.setTimeout(900_000)
const { signal } = new AbortController()
const attestors = await ourAttestors()
const folder = await mkdtemp(join(tmpdir(), 'assay-takeover-'))
t.teardown(() => rm(folder, { recursive: true, force: true }))

type Fault = 'lost' | 'unanswered'

/** A process that dies at its nth call that changes something: before it arrives, or before its answer does. It calls nobody afterwards. */
class Mortal {
  readonly #nth: number
  readonly #fault: Fault
  calls = 0

  constructor (nth: number, fault: Fault = 'lost') {
    this.#nth = nth
    this.#fault = fault
  }

  channel (channel: Channel): Channel {
    const dying = (name: string, call: (...words: unknown[]) => Promise<unknown>) => async (...words: unknown[]) => {
      this.calls++
      if (this.calls < this.#nth) return await call(...words)
      if (this.calls === this.#nth && this.#fault === 'unanswered') await call(...words)
      throw new Error(`killed at ${name}`)
    }
    return {
      client: service => new Proxy(channel.client(service), {
        get (client, name: string) {
          const call = (client as Record<string, unknown>)[name]
          return typeof call !== 'function' || /^(?:get|list|watch)/.test(name) ? call : dying(name, call.bind(client) as never)
        }
      }),
      async [Symbol.asyncDispose] () {}
    }
  }
}

const commands = {
  begin: (takeover: Takeover) => takeover.round({ begin: true, settleMs: 0 }),
  round: (takeover: Takeover) => takeover.round(),
  finish: (takeover: Takeover) => takeover.finish(),
  rollBack: (takeover: Takeover) => takeover.rollBack()
}
type Command = keyof typeof commands
const order = Object.keys(commands) as readonly Command[]

/** Two servers on which one takeover after the other is made, each from nothing. */
class Stage {
  readonly there: Side
  readonly ours: Side
  readonly #channels: Readonly<Record<'there' | 'ours', Channel>>
  #takeovers = 0

  constructor (there: TestServer, ours: TestServer, scope: AsyncDisposableStack) {
    this.#channels = { there: there.admin, ours: ours.admin }
    this.there = scope.use(new Side({ adminSocket: there.config.socketPath }))
    this.ours = scope.use(new Side({ adminSocket: ours.config.socketPath }))
  }

  get #file (): string { return join(folder, `state-${this.#takeovers}.json`) }

  /** As a process of its own has it: nothing but the journal tells it of what was before. */
  takeover (mortal = new Mortal(Number.POSITIVE_INFINITY)): Takeover {
    const [there, ours] = [mortal.channel(this.#channels.there), mortal.channel(this.#channels.ours)]
    const file = this.#file
    return new Takeover({ there, ours, file, lock: () => lockTakeover(file, signal), clock: systemClock, attestors, signal })
  }

  async phase () { return (await readJournal(this.#file))?.phase }

  /** Up to what comes before a command. @returns what SPIRE has once it is done */
  async until (command: Command): Promise<readonly string[]> {
    this.#takeovers++
    for (const side of [this.there, this.ours]) await side.clear()
    await this.ours.add(entry('own'))
    for (const earlier of order) {
      await this.#prepare(earlier)
      if (earlier === command) break
      await commands[earlier](this.takeover())
    }
    return await (command === 'rollBack' ? this.ours : this.there).contents()
  }

  /** So that each command has something of everything to do. */
  async #prepare (command: Command): Promise<void> {
    const { there, ours } = this
    if (command === 'begin') await there.fill()
    if (command === 'round') await there.change()
    if (command === 'finish') await there.add(entry('late'))
    else await ours.authorities.prepareJWTAuthority({})
    if (command !== 'rollBack') return
    await ours.entries.batchUpdateEntry({ entries: [entry('cache', { hint: 'changed' })] })
    await ours.entries.batchDeleteEntry({ ids: ['late'] })
    await ours.add(entry('new'))
  }
}

await t.test('killed at any call of any command, it goes on when that is repeated, and it rolls back', { timeout: 600_000 }, async t => {
  await using scope = new AsyncDisposableStack()
  const stage = new Stage(scope.use(await startTestServer()), scope.use(await startTestServer()), scope)
  const { there, ours } = stage
  await ours.add(entry('own'))
  const own = await ours.contents()

  const isDone = async (command: Command, wanted: readonly string[], when: string) => {
    const nothing = command === 'rollBack'
    const phases: Partial<Record<Command, string>> = { finish: 'finished', rollBack: 'rolled_back' }
    t.same({ there: await there.contents(), ours: await ours.contents(), partners: await ours.partners(), phase: await stage.phase() }, {
      there: wanted, ours: nothing ? [] : [...wanted, ...own].toSorted(),
      partners: nothing ? [] : ['other.test', 'partner.test'], phase: phases[command] ?? 'open'
    }, when)
    if (nothing) return
    const { plan: { authorities, outdated, entries: { create, update, remove } } } = await stage.takeover().look()
    const none = { x509: [], jwt: [] }
    t.same([authorities, outdated, create, update, remove], [{ toThere: none, toHere: none }, none, [], [], []], `${when}: no more to do`)
  }
  const isGone = async (wanted: readonly string[], when: string) => {
    await stage.takeover().rollBack()
    t.same({ there: await there.contents(), ours: await ours.contents(), partners: await ours.partners(), phase: await stage.phase() },
      { there: wanted, ours: own, partners: [], phase: 'rolled_back' }, `${when}, rolled back`)
  }

  let killed = 0
  for (const command of order) {
    const mortal = new Mortal(Number.POSITIVE_INFINITY)
    const wanted = await stage.until(command)
    await commands[command](stage.takeover(mortal))
    await isDone(command, wanted, command)
    t.ok(mortal.calls > (command === 'finish' ? 0 : 4), `${command} makes ${mortal.calls} calls that change something`)
    for (let nth = 1; nth <= mortal.calls; nth++) {
      for (const fault of ['lost', 'unanswered'] as const) {
        for (const repeated of command === 'rollBack' ? [true] : [true, false]) {
          const wanted = await stage.until(command)
          const when = `${command}, call ${nth} ${fault}`
          await t.rejects(commands[command](stage.takeover(new Mortal(nth, fault))), /killed at/, when)
          if (repeated) await commands[command](stage.takeover())
          await (repeated ? isDone(command, wanted, when) : isGone(wanted, when))
          killed++
        }
      }
    }
  }
  t.comment(`killed ${killed} times`)
})
