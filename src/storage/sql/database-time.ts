import { sql, type RawBuilder } from 'kysely'
import type { Clock } from '../../runtime/clock.ts'
import type { SqlDatabase } from './sql-database.ts'

/** Replicas' clocks differ; the database has one, unless it is a file. Unix milliseconds. */
export class DatabaseTime {
  readonly #kind: SqlDatabase['kind']
  readonly #clock: Pick<Clock, 'now'>

  constructor ({ kind }: Pick<SqlDatabase, 'kind'>, clock: Pick<Clock, 'now'>) {
    this.#kind = kind
    this.#clock = clock
  }

  /** This very moment. */
  now (): RawBuilder<number> {
    return this.#kind === 'postgres'
      ? sql<number>`floor(extract(epoch from clock_timestamp()) * 1000)::bigint`
      : sql<number>`${this.#clock.now().getTime()}`
  }

  /** A moment of this replica's clock: what is so long ago for the one is so for the other. */
  of (at: Date): RawBuilder<number> { return sql<number>`${this.now()} + ${at.getTime() - this.#clock.now().getTime()}` }

  /** And back. @param row when somebody was seen, and what the time was when the row was read */
  seenAt ({ seen_at: at, now }: { readonly seen_at: number, readonly now: number }): Date {
    return new Date(this.#clock.now().getTime() - (now - at))
  }
}
