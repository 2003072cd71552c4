import pg from 'pg'
import t from 'tap'
import { systemClock } from '../../src/runtime/clock.ts'
import { silentLogger } from '../../src/runtime/logger.ts'
import { Follower } from '../../src/server/replication/follower.ts'
import type { Agent } from '../../src/spiffe/agent.ts'
import { codeOf, SpiffeError } from '../../src/spiffe/errors.ts'
import type { ChangedState } from '../../src/storage/change-log.ts'
import type { Datastore } from '../../src/storage/datastore.ts'
import { openDatastore } from '../../src/storage/open-datastore.ts'
import { everything } from '../../src/storage/page.ts'
import { eventually } from '../fakes/eventually.ts'
import { executeSql, postgresMissing, startPostgres, type Postgres } from '../fakes/postgres.ts'
import { chooseSeed, Random } from '../fakes/random.ts'
import { agent, bundle, domain, draft, id } from './fixture.ts'

const skip = postgresMissing()
if (skip !== false) t.comment(`skipped: ${skip}`)
const deps = { clock: systemClock, log: silentLogger }
const hot = domain('hot.test')
const writersPerStore = 4
const changesPerWriter = 150
const rawWriters = 3
const rawTransactions = 80

void t.test('the log on PostgreSQL', { skip }, async t => {
  await using cluster = await startPostgres()
  await executeSql(cluster.url, 'alter system set track_commit_timestamp = on')
  await executeSql(cluster.url, 'alter system set deadlock_timeout = 20')
  await cluster.stop()
  await cluster.start()

  await t.test('numbers come without gap and in the order of commits, whatever happens beside', async t => {
    const seed = chooseSeed()
    t.comment(`ASSAY_SEED=${seed}`)
    const url = await cluster.createSchema()
    await using scope = new AsyncDisposableStack()
    const open = async (address: string) => scope.use(await openDatastore(address, deps))
    // One of them on a role whose transactions are serializable unless told otherwise: that must not starve writers.
    const addresses = [url, url, `${url}${encodeURIComponent(' -c default_transaction_isolation=serializable')}`]
    const writing = await Promise.all(addresses.map(open))
    const reader = await open(url)
    const view = new View()
    const follower = await Follower.open({ log: reader.log, followed: view, clock: systemClock, logger: silentLogger })
    await openLongTransactions(cluster, url, scope)

    const stop = new AbortController()
    const following = follower.run(stop.signal)
    const watching = watchNumbers(url, stop.signal)
    const calm = new AbortController()
    const killing = killWriters(cluster.url, new Random(seed), calm.signal)
    const outcomes = await Promise.all([
      ...writing.flatMap((store, s) => Array.from({ length: writersPerStore }, (_, w) =>
        write(store, `s${s}w${w}`, new Random(seed + 100 * s + w + 1)))),
      ...Array.from({ length: rawWriters }, (_, w) => writeRaw(url, `raw${w}`, new Random(seed + 1_000 + w)))
    ])
    calm.abort(new Error('done'))
    const killed = await killing
    const head = await reader.log.head()
    await eventually('the follower has all', () => follower.cursor.number === head.number)
    stop.abort(new Error('done'))
    const [watched] = await Promise.all([watching, following])

    const sum = (count: (outcome: Outcome) => number) => outcomes.reduce((total, outcome) => total + count(outcome), 0)
    const [committed, rolledBack, cut] = [sum(o => o.committed), sum(o => o.rolledBack), sum(o => o.cut)]
    t.comment(JSON.stringify({ head: head.number, committed, rolledBack, cut, killed }))
    t.ok(committed > 700 && rolledBack > 200 && cut > 0 && killed > 5, 'all of it happened')
    // A connection that is cut while it commits leaves its client in doubt.
    t.ok(head.number >= committed && head.number <= committed + cut, 'a number for each commit')
    t.strictSame(watched, Array.from({ length: head.number }, (_, n) => n + 1), 'a reader saw each number once, in order')
    t.strictSame(await executeSql(url, `select a.number from change_log a join change_log b on b.number = a.number + 1
      where pg_xact_commit_timestamp(a.xmin) > pg_xact_commit_timestamp(b.xmin)`), [], 'numbers and commits have one order')
    t.ok(view.numbers.every((number, index) => index === 0 || number > (view.numbers[index - 1] as number)), 'the follower never went back')
    t.equal(view.reloads, 1, 'and read everything once, at the beginning')
    t.strictSame(view.content(), await contentOf(reader), 'what it applied is what the tables hold')
  })

  await t.test('a takeover waits for what the holder is writing', async t => {
    const url = await cluster.createSchema()
    await using one = await openDatastore(url, deps)
    await using two = await openDatastore(url, deps)
    await one.bundles.set(bundle('hot.test'))
    const held = await one.leases.acquire('chores', 'one', 60_000)
    await using blocker = await connect(url)
    await blocker.client.query('begin')
    await blocker.client.query('select * from bundles for update')
    const order: string[] = []
    const writing = one.leases.fenced('chores', held).bundles.update(hot, () => bundle('hot.test', { sequenceNumber: 2n }))
      .then(() => order.push('written'))
    await eventually('the holder is past its fence', () => waiting(cluster, 'bundles'))
    const seizing = two.leases.acquire('chores', 'two', 60_000, { seize: true }).then(lease => {
      order.push('seized')
      return lease
    })
    await eventually('the successor waits', () => waiting(cluster, 'leases'))
    t.match(await two.leases.get('chores'), { holder: 'one' }, 'it has not got it yet')
    const releasedAt = Date.now()
    await blocker.client.query('rollback')
    const [, lease] = await Promise.all([writing, seizing])
    t.strictSame(order, ['written', 'seized'])
    t.match(lease, { holder: 'two', token: held.token + 1 })
    t.ok(lease.expiresAt.getTime() >= releasedAt + 60_000, 'its time counts from when it was had')
    t.equal((await two.bundles.get(hot))?.sequenceNumber, 2n, 'the write before the takeover counts')
    const late = await one.leases.fenced('chores', held).bundles.update(hot, () => bundle('hot.test', { sequenceNumber: 3n }))
      .catch((error: unknown) => error)
    t.equal(codeOf(late), 'lease_lost')
  })

  await t.test('two that forget at once never make a reader skip', async t => {
    const url = await cluster.createSchema()
    await using store = await openDatastore(url, deps)
    for (let n = 0; n < 10; n++) await store.keys.put('k', Uint8Array.of(n))
    await executeSql(url, 'update change_log set changed_at = number')
    const head = await store.log.head()
    await using other = await connect(url)
    await other.client.query('begin')
    await other.client.query('delete from change_log where number <= 8')
    const pruning = store.log.prune(new Date(6))
    await eventually('the second waits', () => waiting(cluster, 'change_log'))
    await other.client.query('update log_head set compacted = 8')
    await other.client.query('commit')
    await pruning
    t.strictSame(await store.log.read({ ...head, number: 6 }), { kind: 'lost' }, '7 and 8 are gone')
    t.equal((await store.log.read({ ...head, number: 8 })).kind, 'changes')
  })
})

/** What a follower has put together from the log. */
class View {
  readonly numbers: number[] = []
  reloads = 0
  readonly #entries = new Map<string, unknown>()
  readonly #agents = new Map<string, unknown>()
  readonly #bundles = new Map<string, unknown>()

  async reload (): Promise<ChangedState> {
    this.reloads++
    return {
      entries: new Map(), agents: new Map(), bundles: new Map(), federation: new Map(), services: new Map(), endpoints: new Map(),
      revocations: new Map(), authorities: false
    }
  }

  async apply ({ entries, agents, bundles }: ChangedState, { number }: { number: number }): Promise<void> {
    if (number > 0) this.numbers.push(number)
    take(this.#entries, entries)
    take(this.#agents, agents)
    take(this.#bundles, bundles)
  }

  content () {
    const sorted = (map: ReadonlyMap<string, unknown>) => [...map].toSorted(([a], [b]) => a < b ? -1 : 1)
    return { entries: sorted(this.#entries), agents: sorted(this.#agents), bundles: sorted(this.#bundles) }
  }
}

function take (into: Map<string, unknown>, changed: ReadonlyMap<string, unknown>): void {
  for (const [key, value] of changed) {
    if (value === undefined) into.delete(key)
    else into.set(key, value)
  }
}

async function contentOf (store: Datastore) {
  const view = new View()
  const entries = new Map((await store.entries.list({}, everything)).entries.map(entry => [entry.id, entry]))
  const agents = new Map((await store.agents.list({}, everything)).agents.map(agent => [agent.id, agent]))
  const bundles = new Map((await store.bundles.list(everything)).bundles.map(bundle => [bundle.trustDomain, bundle]))
  const rest = { federation: new Map(), services: new Map(), endpoints: new Map(), revocations: new Map(), authorities: false }
  await view.apply({ entries, agents, bundles, ...rest }, { number: 0 })
  return view.content()
}

interface Outcome { readonly committed: number, readonly rolledBack: number, readonly cut: number }

/** Changes of its own, changes that meet those of others, and changes that fail in the middle. */
async function write (store: Datastore, name: string, random: Random): Promise<Outcome> {
  const outcome = { committed: 0, rolledBack: 0, cut: 0 }
  const own = agent(name).id
  for (let n = 0; n < changesPerWriter; n++) {
    const numbered = random.below(30)
    const shared = `shared${random.below(5)}`
    const acts: ReadonlyArray<() => Promise<boolean>> = [
      async () => createdSome(await store.entries.createMany([draft(`${name}/${numbered}`, { id: `${name}-${numbered}`, hint: `${n}` })])),
      async () => createdSome(await store.entries.createMany([draft(shared, { id: shared }), draft(`${name}/x`, { id: `${name}-x` })])),
      async () => didSome(await store.entries.updateMany([shared, `${name}-x`].map(id => ({ id, change: { hint: `${n}` } })))),
      async () => didSome(await store.entries.updateMany([
        { id: `${name}-${numbered}`, change: { spiffeId: id(`/${name}/${random.below(30)}`) } }
      ])),
      async () => didSome(await store.entries.deleteMany([shared, `${name}-${numbered}`])),
      async () => await attestAlone(store, agent(name, { serialNumber: `${n}` })) !== undefined,
      async () => await store.agents.delete(own) !== undefined,
      async () => await store.bundles.update(hot, current =>
        bundle('hot.test', { sequenceNumber: (current?.sequenceNumber ?? 0n) + 1n })) !== undefined,
      async () => {
        await store.authorities.save([], {
          trustDomain: hot, change: () => { throw new SpiffeError('bundle_malformed', 'no') }
        })
        return true
      }
    ]
    try {
      if (await random.pick(acts)()) outcome.committed++
    } catch (error) {
      if (/^datastore_(unavailable|outcome_unknown)$/.test(codeOf(error) ?? '')) outcome.cut++
      else if (error instanceof SpiffeError) outcome.rolledBack++
      else throw error
    }
  }
  return outcome
}

const attesting = new WeakMap<Datastore, Promise<unknown>>()

/** Those that come to one store at the same time would share a commit and its number, and each number is to be somebody's own here. */
async function attestAlone (store: Datastore, agent: Agent): Promise<Agent> {
  const before = attesting.get(store)
  const mine = (async () => {
    await before
    return await store.agents.attest(agent)
  })()
  attesting.set(store, mine.catch(() => {}))
  return await mine
}

function createdSome (outcomes: ReadonlyArray<{ readonly kind: string }>): boolean {
  return outcomes.some(({ kind }) => kind === 'created')
}

function didSome (outcomes: readonly unknown[]): boolean {
  return outcomes.some(outcome => !(outcome instanceof SpiffeError))
}

const takeNumber = `with head as (update log_head set number = number + 1 returning number)
  insert into change_log (number, changed_at, keys) select number, 0, '[["authorities"]]' from head`

/** Transactions that take their number and do not commit, of all kinds of isolation. */
async function writeRaw (url: string, name: string, random: Random): Promise<Outcome> {
  const outcome = { committed: 0, rolledBack: 0, cut: 0 }
  let connection = await connect(url)
  for (let n = 0; n < rawTransactions; n++) {
    try {
      const level = random.pick(['read committed', 'repeatable read', 'serializable'])
      await connection.client.query(`begin isolation level ${level}`)
      await connection.client.query('insert into wrapped_keys values ($1, $2) on conflict (id) do update set wrapped = excluded.wrapped',
        [`shared${random.below(3)}`, Buffer.from(name)])
      await connection.client.query(takeNumber)
      if (random.chance(0.2)) throw new Error('the writer dies before its commit')
      await connection.client.query(random.chance(0.5) ? 'commit' : 'rollback').then(({ command }) => {
        if (command === 'COMMIT') outcome.committed++
        else outcome.rolledBack++
      })
    } catch (error) {
      // Serialization failures and deadlocks; then those who died, and those who were killed.
      if (error instanceof pg.DatabaseError && error.code?.startsWith('40') === true) {
        outcome.rolledBack++
        await connection.client.query('rollback').catch(() => {})
        continue
      }
      outcome.cut++
      connection.drop()
      connection = await connect(url)
    }
  }
  await connection[Symbol.asyncDispose]()
  return outcome
}

/** Transactions with an id of their own that stay open all the while: here, and in another database of the cluster. */
async function openLongTransactions (cluster: Postgres, url: string, scope: AsyncDisposableStack): Promise<void> {
  await executeSql(cluster.url, 'create database elsewhere')
  for (const address of [url, cluster.url.replace('/postgres?', '/elsewhere?')]) {
    const { client } = scope.use(await connect(address))
    await client.query('create table long (x integer)')
    await client.query('begin')
    await client.query('insert into long values (1)')
  }
}

/** The numbers as another client sees them come, by looking again and again. */
async function watchNumbers (url: string, signal: AbortSignal): Promise<number[]> {
  await using connection = await connect(url)
  const seen: number[] = []
  const look = async () => {
    const { rows } = await connection.client.query<{ number: string }>('select number from change_log where number > $1 order by number',
      [seen.at(-1) ?? 0])
    for (const { number } of rows) seen.push(Number(number))
  }
  while (!signal.aborted) await look()
  await look()
  return seen
}

/** @returns how many were killed */
async function killWriters (url: string, random: Random, signal: AbortSignal): Promise<number> {
  let killed = 0
  await using connection = await connect(url)
  while (!signal.aborted) {
    await systemClock.sleep(50 + random.below(200), signal).catch(() => {})
    const { rowCount } = await connection.client.query(`select pg_terminate_backend(pid) from pg_stat_activity
      where application_name = 'assay' and state <> 'idle' order by random() limit 1`)
    killed += rowCount ?? 0
  }
  return killed
}

interface Connection extends AsyncDisposable {
  readonly client: pg.Client
  /** Without a word, as when a process dies. */
  drop (): void
}

async function connect (url: string): Promise<Connection> {
  const client = new pg.Client({ connectionString: url, application_name: 'assay-test' })
  client.on('error', () => {})
  await client.connect()
  return {
    client,
    drop: () => { client.connection.stream.destroy() },
    [Symbol.asyncDispose]: () => client.end()
  }
}

/** Whether somebody waits for a lock while using a table. */
async function waiting (cluster: Postgres, table: string): Promise<boolean> {
  const rows = await executeSql(cluster.url, `select 1 from pg_stat_activity where wait_event_type = 'Lock' and query like '%"${table}"%'`)
  return rows.length > 0
}
