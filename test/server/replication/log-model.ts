import { OwnBundle } from '../../../src/ca/own-bundle.ts'
import type { Clock } from '../../../src/runtime/clock.ts'
import { silentLogger } from '../../../src/runtime/logger.ts'
import { Replica, type ReplicaChange } from '../../../src/server/replication/replica.ts'
import type { Touched } from '../../../src/server/touches.ts'
import type { Agent } from '../../../src/spiffe/agent.ts'
import type { Entry } from '../../../src/spiffe/entry.ts'
import { SpiffeError } from '../../../src/spiffe/errors.ts'
import type { SpiffeId } from '../../../src/spiffe/spiffe-id.ts'
import { parseTrustDomain } from '../../../src/spiffe/trust-domain.ts'
import type { Cursor } from '../../../src/storage/change-log.ts'
import { LocalNudges } from '../../../src/storage/nudges.ts'
import { makeAgent } from '../../fakes/agents.ts'
import { idOf, makeEntry, testDomain } from '../../fakes/entries.ts'
import { ModelDatabase, type Committed, type ModelChange, type ModelFaults } from '../../fakes/model-database.ts'
import { Random } from '../../fakes/random.ts'

/** What the protocol does not do; each must be found out. */
export interface Faults extends ModelFaults {
  /** Numbers come from a sequence: nobody waits for who has the one before. */
  readonly numbersWithoutLock?: boolean
  /** A database that was set back keeps its epoch. */
  readonly epochKept?: boolean
  /** Nothing but nudges makes a reader look. */
  readonly nudgesTrusted?: boolean
}

const trustDomain = parseTrustDomain(testDomain)
const agentIds = ['/spire/agent/x/one', '/spire/agent/x/two'].map(idOf)
const entryIds = ['a', 'b', 'c', 'd']
const writerCount = 3
const readerCount = 2
const mostSteps = 64
/** How many steps everybody may take, once nothing fails any more, until all know all. */
const settlingSteps = 3_000
/** Continuations that run between two steps; those that are not through yet come later, which is one more interleaving. */
const microtasks = 3

const away = new SpiffeError('datastore_unavailable', 'away')

interface Writer { readonly keys: ReadonlySet<string>, readonly change: ModelChange, number?: number }
interface Statement { readonly run: () => void, readonly fail: () => void }

/**
 * One interleaving of writers, readers and misfortunes over a database in memory. Readers are real replicas on the real decisions of the
 * change log; each statement of theirs is a step, and so is each of a writer.
 */
class Interleaving {
  readonly #database = new ModelDatabase()
  readonly #random: Random
  readonly #faults: Faults
  readonly #writers: Array<Writer | undefined> = Array.from({ length: writerCount })
  readonly #readers: Reader[]
  readonly #history = new History()
  #sequence = 0
  #epochs = 0
  #written = 0

  constructor (seed: number, faults: Faults = {}) {
    this.#random = new Random(seed)
    this.#faults = faults
    this.#database.faults = faults
    this.#database.mostAtOnce = 1 + this.#random.below(3)
    this.#history.add(this.#database.committed)
    this.#readers = Array.from({ length: readerCount }, () => new Reader(this.#database, this.#history))
  }

  /** @throws when a reader skips a change, goes back, shows what never was, or does not find out in the end */
  async run (): Promise<void> {
    for (let step = 0; step < mostSteps; step++) {
      this.#step()
      await this.#turns()
    }
    this.#writers.fill(undefined)
    await this.#settle()
    for (const reader of this.#readers) reader.crash()
  }

  async #settle (): Promise<void> {
    for (let step = 0; step < settlingSteps; step++) {
      if (this.#readers.every(reader => reader.knowsAll)) return
      this.#settlingStep()
      await this.#turns()
    }
    const places = this.#readers.map(reader => reader.place).join(', ')
    throw new Error(`a reader does not find out: ${places} of ${placeOf(this.#database.head)}`)
  }

  async #turns (): Promise<void> {
    for (let turn = 0; turn < microtasks; turn++) await Promise.resolve()
    for (const { violation } of this.#readers) if (violation !== undefined) throw violation
  }

  #step (): void {
    const random = this.#random
    const reader = random.pick(this.#readers)
    const dice = random.below(100)
    if (dice < 45) this.#writerStep(random.below(writerCount))
    else if (dice < 80) reader.step(random, this.#faults.nudgesTrusted === true ? 0 : 0.3)
    else if (dice < 88) this.#nudge(reader)
    else if (dice < 92) reader.call()
    else if (dice < 94) reader.crash()
    else if (dice < 96) reader.failSomething(random)
    else if (dice < 98) this.#database.compact(this.#database.head.number - random.below(3))
    else if (dice < 99) this.#database.nudged = random.chance(0.5)
    else this.#setBack()
  }

  #settlingStep (): void {
    const reader = this.#random.pick(this.#readers)
    reader.step(this.#random, this.#faults.nudgesTrusted === true ? 0 : 1)
  }

  #writerStep (index: number): void {
    const writer = this.#writers[index]
    if (writer === undefined) this.#begin(index)
    else if (this.#random.chance(0.15)) this.#writers[index] = undefined
    else if (writer.number === undefined) this.#takeNumber(writer)
    else this.#commit(index, writer)
  }

  #begin (index: number): void {
    const random = this.#random
    const locked = new Set(this.#writers.flatMap(writer => [...writer?.keys ?? []]))
    const free = [...entryIds, ...agentIds].filter(key => !locked.has(key))
    if (free.length === 0) return
    const keys = new Set([random.pick(free), random.pick(free)])
    const entries = new Map<string, Entry | undefined>()
    const agents = new Map<SpiffeId, Agent | undefined>()
    for (const key of keys) {
      if (entryIds.includes(key)) entries.set(key, random.chance(0.3) ? undefined : this.#newEntry(key))
      else agents.set(key as SpiffeId, random.chance(0.2) ? undefined : this.#newAgent(key as SpiffeId))
    }
    this.#writers[index] = { keys, change: { entries, agents, authorities: random.chance(0.2), everything: random.chance(0.04) } }
  }

  #newEntry (id: string): Entry {
    const random = this.#random
    const parentId = random.chance(0.3) ? `/${random.pick(entryIds)}` : random.pick(agentIds)
    return { ...templateOf(id, parentId), hint: String(++this.#written), revisionNumber: random.below(2) }
  }

  #newAgent (id: SpiffeId): Agent {
    return makeAgent(id, { serialNumber: String(++this.#written) })
  }

  /** The row of numbers is locked until its holder commits or rolls back. */
  #takeNumber (writer: Writer): void {
    if (this.#faults.numbersWithoutLock === true) writer.number = ++this.#sequence
    else if (this.#writers.every(other => other?.number === undefined)) writer.number = this.#database.head.number + 1
  }

  #commit (index: number, writer: Writer): void {
    this.#database.commit(writer.change, writer.number)
    this.#writers[index] = undefined
    this.#history.add(this.#database.committed)
    for (const reader of this.#readers) reader.nudges++
  }

  /** Delivered, lost, or made up. */
  #nudge (reader: Reader): void {
    const dice = this.#random.below(10)
    if (dice < 6 && reader.nudges > 0) reader.nudged()
    else if (dice < 8) reader.nudges = 0
    else if (dice === 8) reader.nudged()
  }

  /** Restored, or taken over by a standby: connections are lost, and what follows may have the same numbers. */
  #setBack (): void {
    const to = this.#random.pick(this.#history.all)
    this.#writers.fill(undefined)
    this.#database.setBack(to, this.#faults.epochKept === true ? this.#database.head.epoch : `e${++this.#epochs}`)
    this.#history.add(this.#database.committed)
    for (const reader of this.#readers) reader.failAll()
  }
}

/** All that was ever committed. */
class History {
  readonly all: Committed[] = []
  readonly #byPlace = new Map<string, Committed>()

  add (state: Committed): void {
    this.all.push(state)
    this.#byPlace.set(placeOf(state), state)
  }

  at (place: Cursor): Committed | undefined { return this.#byPlace.get(placeOf(place)) }
}

/** A replica that may crash and come back; its statements and its timers wait until it is their turn. */
class Reader {
  violation: Error | undefined
  /** On their way. */
  nudges = 0
  readonly #database: ModelDatabase
  readonly #history: History
  #life: ReaderLife | undefined

  constructor (database: ModelDatabase, history: History) {
    this.#database = database
    this.#history = history
  }

  get place (): string { return this.#life?.replica === undefined ? 'nowhere' : placeOf(this.#life.replica.cursor) }

  get knowsAll (): boolean {
    const life = this.#life
    return life?.replica !== undefined && life.statements.length === 0 && this.place === placeOf(this.#database.head)
  }

  /** A statement, a timer, or, where it is down, a start. */
  step (random: Random, timerChance: number): void {
    const life = this.#life
    if (life === undefined) this.#start()
    else if (life.statements.length > 0) take(life.statements, random).run()
    else if (life.timers.length > 0 && random.chance(timerChance)) take(life.timers, random)()
  }

  /** A request needs to know what was committed until now. */
  call (): void {
    const life = this.#life
    if (life?.replica === undefined) return
    const { replica } = life
    const expected = this.#database.head
    void replica.catchUp().then(() => {
      const { epoch, number } = replica.cursor
      if (life === this.#life && epoch === expected.epoch && number < expected.number) {
        this.#violated(`asked at ${placeOf(expected)} it stood at ${placeOf(replica.cursor)}`)
      }
    }, () => {})
  }

  nudged (): void {
    this.nudges = 0
    this.#life?.nudges.send()
  }

  crash (): void {
    this.#life?.stop.abort(away)
    this.#life = undefined
  }

  failSomething (random: Random): void {
    if (this.#life !== undefined && this.#life.statements.length > 0) take(this.#life.statements, random).fail()
  }

  failAll (): void { for (const { fail } of this.#life?.statements.splice(0) ?? []) fail() }

  #start (): void {
    const life = new ReaderLife(this.#database)
    this.#life = life
    this.nudges = 0
    life.start(change => { if (life === this.#life) this.#check(life, change) })
      .catch(() => { if (life === this.#life) this.crash() })
  }

  #check (life: ReaderLife, { cursor, touched }: ReplicaChange): void {
    const replica = life.replica as Replica
    const { last } = life
    life.last = cursor
    if (last.epoch === cursor.epoch && cursor.number < last.number) this.#violated(`went back from ${placeOf(last)} to ${placeOf(cursor)}`)
    const state = this.#history.at(cursor)
    if (state === undefined) return this.#violated(`the log was never at ${placeOf(cursor)}`)
    for (const id of entryIds) if (replica.registry.get(id) !== state.entries.get(id)) this.#violated(`${id} at ${placeOf(cursor)}`)
    for (const id of agentIds) if (replica.agents.get(id) !== state.agents.get(id)) this.#violated(`${id} at ${placeOf(cursor)}`)
    life.tell(touched)
    for (const agent of state.agents.values()) if (!life.isTold(agent)) this.#violated(`${agent.id} is not told at ${placeOf(cursor)}`)
  }

  #violated (what: string): void { this.violation ??= new Error(what) }
}

/** From a start to a crash. */
class ReaderLife {
  readonly statements: Statement[] = []
  readonly timers: Array<() => void> = []
  readonly nudges = new LocalNudges()
  readonly stop = new AbortController()
  replica: Replica | undefined
  last: Cursor = { epoch: '', number: 0 }
  /** What agents that follow know. */
  readonly #told = new Map<SpiffeId, Map<string, Entry>>()
  readonly #database: ModelDatabase

  constructor (database: ModelDatabase) { this.#database = database }

  async start (onChange: (change: ReplicaChange) => void): Promise<void> {
    const store = this.#database.storeFor(statement => this.#turn(statement), this.nudges)
    const ownBundle = await OwnBundle.open(trustDomain, store.bundles)
    const replica = await Replica.open({
      store, trustDomain, ownBundle, clock: this.#clock(), maxStaleMs: 10_000, log: silentLogger,
      onAuthorities: () => this.#turn(() => {})
    })
    this.replica = replica
    this.last = replica.cursor
    this.tell(new Map([...replica.registry.agentIds()].map(id => [id, 'all'])))
    replica.onChange(onChange)
    onChange({
      cursor: replica.cursor, touched: new Map(), bundles: new Set(), federation: new Set(), agents: new Set(),
      reporters: new Set(), mesh: { services: new Set(), endpoints: new Set() }, revocations: true, policies: false
    })
    void replica.run(this.stop.signal).catch(() => {})
  }

  /** What a stream does with a touch. */
  tell (touched: ReadonlyMap<SpiffeId, Touched>): void {
    const { registry, agents } = this.replica as Replica
    for (const [id, touch] of touched) {
      const agent = agents.get(id)
      if (agent === undefined) {
        this.#told.delete(id)
        continue
      }
      const known = touch === 'all' ? new Map<string, Entry>() : this.#told.get(id) ?? new Map<string, Entry>()
      const looked = touch === 'all' ? registry.authorizedEntries(agent).map(entry => entry.id) : touch
      for (const entryId of looked) {
        const entry = registry.get(entryId)
        if (entry !== undefined && registry.isAuthorized(agent, entry)) known.set(entryId, entry)
        else known.delete(entryId)
      }
      this.#told.set(id, known)
    }
  }

  isTold (agent: Agent): boolean {
    const due = (this.replica as Replica).registry.authorizedEntries(agent)
    const told = this.#told.get(agent.id)
    return (told?.size ?? 0) === due.length && due.every(entry => told?.get(entry.id) === entry)
  }

  #turn<T> (statement: () => T): Promise<T> {
    return new Promise((resolve, reject) => {
      this.statements.push({
        run: () => resolve(statement()),
        fail: () => reject(away)
      })
    })
  }

  /** Time passes when it is a timer's turn. */
  #clock (): Clock {
    let ms = 0
    return {
      now: () => new Date(ms),
      monotonicMs: () => ms++,
      sleep: (_, signal) => new Promise((resolve, reject) => {
        const wake = () => { signal?.removeEventListener('abort', stop); resolve() }
        const stop = () => { this.timers.splice(this.timers.indexOf(wake), 1); reject(signal?.reason) }
        this.timers.push(wake)
        signal?.addEventListener('abort', stop, { once: true })
      })
    }
  }
}

const templates = new Map<string, Entry>()

function templateOf (id: string, parentId: string): Entry {
  const key = `${id} ${parentId}`
  const template = templates.get(key) ?? makeEntry({ id, spiffeId: `/${id}`, parentId })
  templates.set(key, template)
  return template
}

function take<T> (items: T[], random: Random): T { return items.splice(random.below(items.length), 1)[0] as T }

function placeOf ({ epoch, number }: Cursor): string { return `${epoch}/${number}` }

/** @returns the first seed that goes wrong, and how */
export async function findViolation (from: number, count: number, faults?: Faults): Promise<string | undefined> {
  for (let seed = from; seed < from + count; seed++) {
    // What weak references hold is let go of only between two turns of the event loop.
    if (seed % 100 === 0) await new Promise(resolve => setImmediate(resolve))
    try {
      await new Interleaving(seed, faults).run()
    } catch (error) {
      return `ASSAY_SEED=${seed}: ${(error as Error).stack}`
    }
  }
  return undefined
}
