import { sql, type RawBuilder } from 'kysely'
import type { Clock } from '../../runtime/clock.ts'
import type { SqlDatabase } from './sql-database.ts'

/** Unix milliseconds at this very moment: replicas' clocks differ, and the database has one, unless it is a file. */
export function databaseTime (kind: SqlDatabase['kind'], clock: Pick<Clock, 'now'>): RawBuilder<number> {
  return kind === 'postgres'
    ? sql<number>`floor(extract(epoch from clock_timestamp()) * 1000)::bigint`
    : sql<number>`${clock.now().getTime()}`
}
