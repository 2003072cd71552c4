import { sql, type RawBuilder, type SqlBool } from 'kysely'
import { SpiffeError } from '../../spiffe/errors.ts'
import type { MatchKind } from '../set-match.ts'

/** Names of a set that a table's rows hold in another table. */
interface SetColumns {
  readonly owner: string
  /** Column of the owner that says how large its set is. */
  readonly size: string
  readonly members: string
  /** Column of the members that names the owner's row. */
  readonly ownerRow: string
  readonly value: string
}

export const entrySelectorSet: SetColumns =
  { owner: 'entries', size: 'selector_count', members: 'entry_selectors', ownerRow: 'entry_row', value: 'selector_key' }
export const entryFederationSet: SetColumns =
  { owner: 'entries', size: 'federation_count', members: 'entry_federations', ownerRow: 'entry_row', value: 'trust_domain' }
export const agentSelectorSet: SetColumns =
  { owner: 'agents', size: 'selector_count', members: 'agent_selectors', ownerRow: 'agent_row', value: 'selector_key' }

/** A statement takes 32 766 parameters on SQLite, and `subset` needs each value twice. */
const mostValues = 10_000

/**
 * The condition that a row's set relates to the values as `match` says.
 * @param values without repeats
 * @throws {SpiffeError} `argument_invalid` when there are none, or too many
 */
export function setCondition (columns: SetColumns, match: MatchKind, values: readonly unknown[]): RawBuilder<SqlBool> {
  if (values.length === 0) throw new SpiffeError('argument_invalid', 'the set to filter by is empty')
  if (values.length > mostValues) {
    throw new SpiffeError('argument_invalid', `the set to filter by has ${values.length} members, at most ${mostValues} are allowed`)
  }
  const row = sql.ref(`${columns.owner}.row_id`)
  const size = sql.ref(`${columns.owner}.${columns.size}`)
  const ownerRow = sql.ref(`${columns.members}.${columns.ownerRow}`)
  const among = sql`${sql.ref(`${columns.members}.${columns.value}`)} in (${sql.join(values)})`
  const members = sql.table(columns.members)
  const count = sql.lit(values.length)
  const holders = sql`select ${ownerRow} from ${members} where ${among}`
  const holdsOne = sql<SqlBool>`${row} in (${holders})`
  const holdsAll = sql<SqlBool>`${row} in (${holders} group by ${ownerRow} having count(*) = ${count})`
  const held = sql`(select count(*) from ${members} where ${ownerRow} = ${row} and ${among})`
  const conditions: Readonly<Record<MatchKind, RawBuilder<SqlBool>>> = {
    any: holdsOne,
    superset: holdsAll,
    exact: sql`(${size} = ${count} and ${holdsAll})`,
    subset: sql`(${holdsOne} and ${size} = ${held})`
  }
  return conditions[match]
}
