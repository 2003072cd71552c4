import { sql, type Transaction } from 'kysely'
import { policyFactColumns } from '../sql/policy-rows.ts'
import type { AuthorityRow, BundleRow, RevocationRow, Schema } from '../sql/schema.ts'
import { countedChunks, describeFederation, digestBundle, namePolicies, type BackupContents } from './backup-contents.ts'
import { Findings, type Difference } from './findings.ts'
import { toRecord, writeDown, type OnRows, type RowChunk, type WrittenRow } from './row.ts'
import { countRows, readRows } from './table-rows.ts'
import { tables, type TableSpec } from './tables.ts'

export interface CompareOptions {
  readonly file: string
  readonly contents: BackupContents
  readonly trustDomain: string
  readonly kind: 'sqlite' | 'postgres'
  readonly now: Date
  readonly signal: AbortSignal
  readonly onRows?: OnRows | undefined
}

/** Finds what the database says that the backup does not. In memory it keeps one number per entry and agent. */
export async function compareWithBackup (trx: Transaction<Schema>, options: CompareOptions): Promise<Findings> {
  const { file, contents, kind, now, signal, onRows } = options
  const findings = new Findings()
  compareAuthorities(await trx.selectFrom('authorities').selectAll().orderBy('row_id').execute(), contents, findings)
  compareRevocations(await trx.selectFrom('revocations').selectAll().orderBy('id').execute(), contents, now, findings)
  await compareBundles(trx, options, findings)
  await compareFederation(trx, contents, findings)
  await comparePolicies(trx, contents, findings)
  const comparisons = new Map<TableSpec['name'], Comparison>(
    [entryComparison, agentComparison, serviceComparison].map(spec => [spec.table, new Comparison(trx, spec, findings)]))
  for await (const chunk of countedChunks(file, 'compared', signal, onRows)) await comparisons.get(chunk.table.name)?.take(chunk)
  for (const comparison of comparisons.values()) await comparison.rest(kind, signal)
  return findings
}

type NamedRow = Readonly<Record<string, unknown>> & { readonly row_id: number, readonly id: string }

/** How rows that have an id of their own are told apart. */
interface ComparisonSpec {
  readonly table: 'entries' | 'agents' | 'services'
  /** Both are there, and differ. */
  readonly differs: (before: NamedRow, now: NamedRow, findings: Findings) => void
  readonly gone: (before: NamedRow, findings: Findings) => void
  readonly added: (now: NamedRow, findings: Findings) => void
}

const entryComparison: ComparisonSpec = {
  table: 'entries',
  differs: (_, now, findings) => findings.add('entry_changed', entryOf(now)),
  gone: (before, findings) => findings.add('entry_deleted', entryOf(before)),
  added: (now, findings) => findings.add('entry_created', entryOf(now))
}

const agentComparison: ComparisonSpec = {
  table: 'agents',
  differs (before, now, findings) {
    if (now['banned'] === 1) {
      if (before['banned'] === 0) findings.add('agent_banned', { id: now.id })
    } else if (before['banned'] === 1) {
      findings.add('agent_unbanned', { id: now.id })
    } else if (before['serial_number'] !== now['serial_number']) {
      findings.add('agent_renewed', { id: now.id })
    }
  },
  gone: (before, findings) => findings.add(before['banned'] === 1 ? 'agent_unbanned' : 'agent_evicted', { id: before.id }),
  added: (now, findings) => findings.add(now['banned'] === 1 ? 'agent_banned' : 'agent_attested', { id: now.id })
}

const serviceComparison: ComparisonSpec = {
  table: 'services',
  differs: (_, { id }, findings) => findings.add('service_changed', { id }),
  gone: ({ id }, findings) => findings.add('service_deleted', { id }),
  added: ({ id }, findings) => findings.add('service_created', { id })
}

function entryOf (row: NamedRow): Difference { return { id: row.id, spiffeId: row['spiffe_id'] as string } }

/** Compares the rows of a table as a backup is read. */
class Comparison {
  readonly #trx: Transaction<Schema>
  readonly #spec: ComparisonSpec
  readonly #table: TableSpec
  readonly #findings: Findings
  /** Row numbers of what the backup has too. */
  readonly #known = new Set<number>()

  constructor (trx: Transaction<Schema>, spec: ComparisonSpec, findings: Findings) {
    this.#trx = trx
    this.#spec = spec
    this.#table = specOf(spec.table)
    this.#findings = findings
  }

  async take ({ columns, rows }: RowChunk): Promise<void> {
    const ids = rows.map(row => row[columns.indexOf('id')])
    const { rows: found } = await sql<NamedRow>`select * from ${sql.table(this.#spec.table)} where id in (${sql.join(ids)})`
      .execute(this.#trx)
    const now = new Map(found.map(row => [row.id, row]))
    for (const written of rows) {
      const before = named(columns, written)
      const current = now.get(before.id)
      if (current === undefined) {
        this.#spec.gone(before, this.#findings)
        continue
      }
      this.#known.add(current.row_id)
      const same = named(Object.keys(this.#table.columns), writeDown(this.#table, current))
      const differs = columns.some(column => column !== 'row_id' && same[column] !== before[column])
      if (differs) this.#spec.differs(before, current, this.#findings)
    }
  }

  /** What the backup does not have. */
  async rest (kind: CompareOptions['kind'], signal: AbortSignal): Promise<void> {
    if (await countRows(this.#trx, this.#table) === this.#known.size) return
    for await (const { columns, rows } of readRows(this.#trx, kind, this.#table)) {
      signal.throwIfAborted()
      for (const row of rows.map(row => named(columns, row))) if (!this.#known.has(row.row_id)) this.#spec.added(row, this.#findings)
    }
  }
}

function named (columns: readonly string[], row: WrittenRow): NamedRow {
  return Object.fromEntries(columns.map((column, index) => [column, row[index]])) as NamedRow
}

function compareAuthorities (now: readonly AuthorityRow[], { authorities }: BackupContents, findings: Findings): void {
  const before = new Map(authorities.map(row => [nameOf(row), row]))
  for (const row of now) {
    const earlier = before.get(nameOf(row))
    const difference = { id: nameOf(row) }
    if (isRevocation(row.state) && rank(row.state) > rank(earlier?.state)) findings.add(`authority_${row.state}`, difference)
    else if (rank(row.state) < rank(earlier?.state)) findings.add('authority_cleared', difference)
    else if (earlier === undefined) findings.add('authority_made', difference)
  }
}

/** Those that have expired say nothing. */
function compareRevocations (rows: readonly RevocationRow[], { revocations }: BackupContents, now: Date, findings: Findings): void {
  const standing = (some: readonly RevocationRow[]) => new Map(some.filter(row => row.expires_at > now.getTime()).map(row => [row.id, row]))
  const [before, current] = [standing(revocations), standing(rows)]
  for (const [id, { subject }] of current) if (!before.has(id)) findings.add('revocation_made', { id, spiffeId: subject })
  for (const [id, { subject }] of before) if (!current.has(id)) findings.add('revocation_lifted', { id, spiffeId: subject })
}

function nameOf ({ kind, authority_id: id }: Pick<AuthorityRow, 'kind' | 'authority_id'>): string { return `${kind} ${id}` }

function isRevocation (state: string): state is 'tainted' | 'revoked' { return rank(state) > 0 }

/** Up to tainted the states of an authority are its normal life. */
function rank (state: string | undefined): number { return state === 'revoked' ? 2 : state === 'tainted' ? 1 : 0 }

/** Federated ones: what the own bundle says, its authorities do. */
async function compareBundles (
  trx: Transaction<Schema>, { kind, trustDomain, contents: { bundles } }: CompareOptions, findings: Findings
): Promise<void> {
  const gone = new Set([...bundles.keys()].filter(id => id !== trustDomain))
  for await (const chunk of readRows(trx, kind, specOf('bundles'))) {
    for (const row of chunk.rows.map(row => toRecord(chunk, row) as unknown as BundleRow)) {
      const { trust_domain: id } = row
      if (id === trustDomain) continue
      gone.delete(id)
      const before = bundles.get(id)
      if (before === undefined) findings.add('bundle_created', { id })
      else if (before !== digestBundle(row)) findings.add('bundle_changed', { id })
    }
  }
  for (const id of gone) findings.add('bundle_deleted', { id })
}

async function compareFederation (trx: Transaction<Schema>, { federation }: BackupContents, findings: Findings): Promise<void> {
  const gone = new Set(federation.keys())
  for (const row of await trx.selectFrom('federation_relationships').selectAll().orderBy('row_id').execute()) {
    const { trust_domain: id } = row
    gone.delete(id)
    const before = federation.get(id)
    if (before === undefined) findings.add('federation_created', { id })
    else if (before !== describeFederation(row)) findings.add('federation_changed', { id })
  }
  for (const id of gone) findings.add('federation_deleted', { id })
}

/** Those that the history has forgotten since are not missed. */
async function comparePolicies (trx: Transaction<Schema>, { policies }: BackupContents, findings: Findings): Promise<void> {
  for (const row of await trx.selectFrom('policy_versions').select(policyFactColumns).orderBy('number').execute()) {
    if (!policies.has(namePolicies(row))) findings.add('policy_applied', { id: `${row.number}` })
  }
}

function specOf (name: TableSpec['name']): TableSpec { return tables.find(table => table.name === name) as TableSpec }
