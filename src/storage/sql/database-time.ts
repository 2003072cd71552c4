import { sql, type RawBuilder } from 'kysely'
import type { Clock } from '../../runtime/clock.ts'
import type { SqlDatabase } from './sql-database.ts'

/** Unix milliseconds at this very moment: replicas' clocks differ, and the database has one, unless it is a file. */
export function databaseTime (kind: SqlDatabase['kind'], clock: Pick<Clock, 'now'>): RawBuilder<number> {
  return kind === 'postgres'
    ? sql<number>`floor(extract(epoch from clock_timestamp()) * 1000)::bigint`
    : sql<number>`${clock.now().getTime()}`
}

/** A moment of a replica's clock in the database's time: what is so long ago for the one is so for the other. */
export function inDatabaseTime (kind: SqlDatabase['kind'], clock: Pick<Clock, 'now'>, at: Date): RawBuilder<number> {
  return sql<number>`${databaseTime(kind, clock)} + ${at.getTime() - clock.now().getTime()}`
}

/** And back. @param row a moment in the database's time, and what its time was when the row was read */
export function inOurTime (clock: Pick<Clock, 'now'>, { seen_at: at, now }: { readonly seen_at: number, readonly now: number }): Date {
  return new Date(clock.now().getTime() - (now - at))
}
