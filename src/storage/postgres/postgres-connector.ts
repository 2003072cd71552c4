import pg from 'pg'
import type { Clock } from '../../runtime/clock.ts'
import type { Logger } from '../../runtime/logger.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import { describeAddress, describeTarget, type PostgresAddress, type PostgresTarget } from './postgres-address.ts'
import { reasonOf } from './postgres-errors.ts'
import { readPostgresTls } from './postgres-tls.ts'
import { timelineSql, type ServerTimeline, type Timelines } from './timeline.ts'

/** How long things may take, in milliseconds. */
export interface ConnectionLimits {
  /** For one server; an address that says something else wins. */
  readonly connectTimeoutMs: number
  readonly statementTimeoutMs: number
  /** Longer than the server's own limit: it only strikes when the network swallows the answer. */
  readonly answerTimeoutMs: number
  /** Of a transaction in which nothing is said: whoever vanished in one keeps others waiting no longer, and so on for each that it has. */
  readonly idleTransactionMs: number
}

export interface ConnectorDeps {
  readonly clock: Clock
  readonly log: Logger
  /** Shared by all connectors to one database. */
  readonly timelines: Timelines
}

/** What a server says of itself when a connection to it begins. */
interface ServerFacts extends ServerTimeline {
  readonly standby: boolean
  readonly readOnly: boolean
}

/** To be refused takes no longer. */
const slowMs = 500

const askFacts = `select pg_is_in_recovery() as standby, current_setting('transaction_read_only') = 'on' as "readOnly",
  (select system_identifier::text from pg_control_system()) as cluster, ${timelineSql} as timeline`

/** Whole numbers of 64 bits arrive as text; ours stay below 2^53. */
const getTypeParser = ((oid, format) =>
  oid === pg.types.builtins.INT8 ? Number : pg.types.getTypeParser(oid, format)) as typeof pg.types.getTypeParser

/**
 * Opens connections to whichever server of an address takes writes: the one that did last, otherwise the first in the address's order.
 * A standby, a read-only server and a primary that was left behind by a fail-over are passed over. Unlike libpq, which stops at the first
 * server that refuses a password, it goes on after any failure: of a cluster with one broken member the others are used.
 */
export class PostgresConnector {
  readonly #address: PostgresAddress
  readonly #limits: ConnectionLimits
  readonly #deps: ConnectorDeps
  readonly #connectTimeoutMs: number
  #last: PostgresTarget | undefined
  #away: { readonly untilMs: number, readonly failures: readonly Failure[] } | undefined

  constructor (address: PostgresAddress, limits: ConnectionLimits, deps: ConnectorDeps) {
    this.#address = address
    this.#limits = limits
    this.#connectTimeoutMs = address.connectTimeoutMs ?? limits.connectTimeoutMs
    this.#deps = deps
  }

  /**
   * @param name what the server calls the connection, unless the address says otherwise
   * @throws {SpiffeError} `datastore_unavailable`, with what each server said
   */
  async connect (name: string): Promise<pg.Client> {
    const { clock } = this.#deps
    const startedMs = clock.monotonicMs()
    if (this.#away !== undefined && startedMs < this.#away.untilMs) throw this.#refusal(this.#away.failures)
    const failures: Failure[] = []
    for (const target of this.#inOrder()) {
      try {
        const client = await this.#open(target, name)
        this.#use(target)
        return client
      } catch (error) {
        failures.push({ target, error })
      }
    }
    // Servers that swallow packets cost a timeout each: whoever comes soon after is told at once.
    const nowMs = clock.monotonicMs()
    if (nowMs - startedMs >= slowMs) this.#away = { untilMs: nowMs + (nowMs - startedMs), failures }
    throw this.#refusal(failures)
  }

  #inOrder (): readonly PostgresTarget[] {
    const last = this.#last
    return last === undefined ? this.#address.targets : [last, ...this.#address.targets.filter(target => target !== last)]
  }

  #use (target: PostgresTarget): void {
    const before = this.#last
    this.#last = target
    this.#away = undefined
    if (before === undefined || before === target) return
    this.#deps.log.warn({ from: describeTarget(before), to: describeTarget(target) }, 'the PostgreSQL primary is another server now')
  }

  async #open (target: PostgresTarget, name: string): Promise<pg.Client> {
    const client = new pg.Client(await this.#clientConfig(target, name))
    // Without a listener an error between two statements would end the process.
    client.on('error', () => {})
    try {
      await client.connect()
      const question = { text: askFacts, query_timeout: this.#connectTimeoutMs }
      const { rows } = await client.query<ServerFacts>(question)
      this.#check(rows[0] as ServerFacts)
      return client
    } catch (error) {
      // Its own end may never come.
      client.end().catch(() => {})
      throw error
    }
  }

  #check (facts: ServerFacts): void {
    if (facts.standby) throw new Error('the server is a standby')
    if (facts.readOnly) throw new Error('the server is read-only')
    const newer = this.#deps.timelines.newerThan(facts)
    if (newer !== undefined) {
      throw new Error(`the server is a primary of the past, on timeline ${facts.timeline}: ${newer} was seen; stop it`)
    }
  }

  /** Everything is said, so that libpq's environment variables change nothing but what the address leaves open. */
  async #clientConfig ({ host, port }: PostgresTarget, name: string): Promise<pg.ClientConfig> {
    const { user, password, database, tls, applicationName = name, options } = this.#address
    const { statementTimeoutMs, answerTimeoutMs, idleTransactionMs } = this.#limits
    return {
      host,
      port,
      user,
      password: password(),
      database,
      sslnegotiation: 'postgres',
      // As libpq: no TLS over Unix sockets.
      ssl: tls === undefined || host.startsWith('/') ? false : await readPostgresTls(tls),
      application_name: applicationName,
      connectionTimeoutMillis: this.#connectTimeoutMs,
      statement_timeout: statementTimeoutMs,
      query_timeout: answerTimeoutMs,
      lock_timeout: statementTimeoutMs,
      idle_in_transaction_session_timeout: idleTransactionMs,
      keepAlive: true,
      types: { getTypeParser },
      ...options === undefined ? {} : { options }
    }
  }

  #refusal (failures: readonly Failure[]): SpiffeError {
    const [first] = failures
    const reasons = failures.map(({ target, error }) => `${describeTarget(target)}: ${reasonOf(error)}`)
    const reason = failures.length === 1 ? reasonOf(first?.error) : `no server takes writes; ${reasons.join('; ')}`
    return new SpiffeError('datastore_unavailable', `${describeAddress(this.#address)} cannot be used now: ${reason}`, {
      cause: failures.length === 1 ? first?.error : new AggregateError(failures.map(({ error }) => error))
    })
  }
}

interface Failure { readonly target: PostgresTarget, readonly error: unknown }
