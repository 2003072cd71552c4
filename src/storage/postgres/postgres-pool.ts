import type { PostgresPool, PostgresPoolClient } from 'kysely'
import pg from 'pg'
import type { Clock } from '../../runtime/clock.ts'
import type { Logger } from '../../runtime/logger.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import type { ConnectionLimits } from './postgres-connector.ts'
import { breaksConnection, UnconfirmedCommit } from './postgres-errors.ts'
import { Slots } from './slots.ts'

export interface PoolLimits extends ConnectionLimits {
  readonly connections: number
  /** Open ones that nobody uses; further ones are closed when they come back. */
  readonly idleConnections: number
  /** Older connections are not lent again. */
  readonly lifetimeMs: number
}

/** How much longer than the server's own limit an answer is waited for. */
export const answerGraceMs = 5_000

export const usualPoolLimits: PoolLimits = {
  connections: 10, idleConnections: Number.POSITIVE_INFINITY, lifetimeMs: Number.POSITIVE_INFINITY,
  connectTimeoutMs: 5_000, statementTimeoutMs: 15_000, answerTimeoutMs: 15_000 + answerGraceMs, idleTransactionMs: 15_000
}

export interface PoolDeps {
  readonly connector: { connect (name: string): Promise<pg.Client> }
  readonly limits: PoolLimits
  readonly clock: Clock
  readonly log: Logger
}

/** Longer unused connections are not lent again: what stands in between may have forgotten them without a word. */
const longestIdleMs = 30_000

/** SQLSTATE `warning`; with a COMMIT there is but one. */
const warning = '01000'

/** What made a connection useless, once something did. */
interface State { failure: { readonly error: unknown } | undefined }

interface Notice { readonly code: string | undefined, readonly message: string | undefined }

interface Connection {
  readonly client: pg.Client
  /** The same object each time: Kysely remembers connections by it. */
  readonly lent: PostgresPoolClient
  /** How many losses there had been when it was opened. */
  readonly losses: number
  readonly openedMs: number
  idleSinceMs: number
}

/**
 * Lends connections, one to each that asks, opened as they are needed. Once one was lost, or its server takes no writes any more, all
 * that were opened before are given up: the next statement has a new connection, to whichever server is the primary now. (Written here
 * because the driver's own pool knows one server, and goes on to lend connections of one that is gone.)
 */
export class ConnectionPool implements PostgresPool {
  readonly options = {}
  readonly #deps: PoolDeps
  readonly #slots: Slots
  #idle: Connection[] = []
  #losses = 0
  #ended = false

  constructor (deps: PoolDeps) {
    this.#deps = deps
    this.#slots = new Slots(deps.limits.connections, deps.clock)
  }

  /** @throws {SpiffeError} `datastore_unavailable` */
  async connect (): Promise<PostgresPoolClient> {
    if (this.#ended) throw new SpiffeError('datastore_unavailable', 'the datastore is closed')
    const { connections, connectTimeoutMs } = this.#deps.limits
    if (!await this.#slots.take(connectTimeoutMs)) {
      throw new SpiffeError('datastore_unavailable', `all ${connections} connections to the database are busy`)
    }
    try {
      return (this.#takeIdle() ?? await this.#open()).lent
    } catch (error) {
      this.#slots.give()
      throw error
    }
  }

  /** Waits for what is lent. */
  async end (): Promise<void> {
    this.#ended = true
    const closed = this.#closeIdle(() => true)
    for (let n = 0; n < this.#deps.limits.connections; n++) await this.#slots.take()
    await closed
  }

  #takeIdle (): Connection | undefined {
    const oldestMs = this.#deps.clock.monotonicMs() - longestIdleMs
    void this.#closeIdle(connection => connection.idleSinceMs < oldestMs || this.#isOld(connection))
    return this.#idle.pop()
  }

  async #open (): Promise<Connection> {
    const losses = this.#losses
    const openedMs = this.#deps.clock.monotonicMs()
    const client = await this.#deps.connector.connect('assay')
    const state: State = { failure: undefined }
    const lose = (error: unknown) => {
      state.failure ??= { error }
      this.#lost(losses)
    }
    const connection: Connection = {
      client,
      losses,
      openedMs,
      idleSinceMs: 0,
      lent: {
        query: queryOn(client, state, lose),
        release: destroy => { void this.#takeBack(connection, destroy === true || state.failure !== undefined) }
      }
    }
    client.on('error', error => {
      if (this.#idle.includes(connection)) this.#deps.log.warn({ err: error }, 'lost an idle database connection')
      lose(error)
    })
    return connection
  }

  /** @param losses when the lost connection was opened: those opened since are not concerned */
  #lost (losses: number): void {
    if (losses !== this.#losses) return
    this.#losses++
    void this.#closeIdle(() => true)
  }

  async #takeBack (connection: Connection, broken: boolean): Promise<void> {
    const isSpare = this.#idle.length >= this.#deps.limits.idleConnections || this.#isOld(connection)
    if (broken || this.#ended || connection.losses !== this.#losses || isSpare) {
      // Its slot is free already: the end of a connection that fell silent may take as long as it likes.
      this.#slots.give()
      await close(connection)
      return
    }
    connection.idleSinceMs = this.#deps.clock.monotonicMs()
    this.#idle.push(connection)
    this.#slots.give()
  }

  #isOld ({ openedMs }: Connection): boolean {
    return this.#deps.clock.monotonicMs() - openedMs >= this.#deps.limits.lifetimeMs
  }

  async #closeIdle (which: (connection: Connection) => boolean): Promise<void> {
    const closing = this.#idle.filter(which)
    this.#idle = this.#idle.filter(connection => !closing.includes(connection))
    await Promise.all(closing.map(close))
  }
}

async function close ({ client }: Connection): Promise<void> { await client.end().catch(() => {}) }

/**
 * One statement. On a connection that failed none is sent: what made it fail is said again. A COMMIT that PostgreSQL answers with a warning
 * was made without its synchronous standby: somebody cut the wait for it short. Whoever asked for it must not be told that it cannot be
 * lost.
 */
function queryOn (client: pg.Client, state: State, lose: (error: unknown) => void): PostgresPoolClient['query'] {
  const query = async (text: string, values: readonly unknown[]) => {
    if (state.failure !== undefined) throw state.failure.error
    let warned: string | undefined
    const listen = ({ code, message }: Notice) => { if (code === warning) warned = message ?? '' }
    const commits = text === 'commit'
    if (commits) client.on('notice', listen)
    try {
      const result = await client.query(text, [...values])
      if (warned !== undefined) throw new UnconfirmedCommit(warned)
      return result
    } catch (error) {
      if (breaksConnection(error)) lose(error)
      throw error
    } finally {
      client.off('notice', listen)
    }
  }
  return query as unknown as PostgresPoolClient['query']
}
