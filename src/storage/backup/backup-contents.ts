import { createHash } from 'node:crypto'
import type { AgentRow, AuthorityRow, BundleRow, FederationRow, PolicyVersionRow, RevocationRow, Schema } from '../sql/schema.ts'
import type { BackupHeader } from './backup-header.ts'
import { readBackup } from './read-backup.ts'
import { toRecord, type OnRows, type RowChunk, type WrittenRow } from './row.ts'

/** What of a backup fits in memory whatever its size, and is needed before a row is restored. */
export interface BackupContents {
  readonly header: BackupHeader
  readonly authorities: readonly AuthorityRow[]
  readonly bannedAgents: readonly AgentRow[]
  readonly revocations: readonly RevocationRow[]
  /** Trust domain → digest of what its bundle says. */
  readonly bundles: ReadonlyMap<string, string>
  /** Trust domain → what its relationship says. */
  readonly federation: ReadonlyMap<string, string>
  readonly ownBundle: BundleRow | undefined
  /** What tells versions of policies apart. */
  readonly policies: ReadonlySet<string>
  readonly leases: ReadonlyArray<Schema['leases']>
}

/** Reads all of a backup: on return it is known to be whole. @throws {SpiffeError} `backup_malformed`, `backup_newer`, `file_unusable` */
export async function readContents (path: string, signal: AbortSignal, onRows?: OnRows): Promise<BackupContents> {
  let header: BackupHeader | undefined
  const authorities: AuthorityRow[] = []
  const bannedAgents: AgentRow[] = []
  const revocations: RevocationRow[] = []
  const bundles = new Map<string, string>()
  const federation = new Map<string, string>()
  const policies = new Set<string>()
  const leases: Array<Schema['leases']> = []
  let ownBundle: BundleRow | undefined
  for await (const chunk of countedChunks(path, 'checked', signal, onRows, found => { header = found })) {
    const records = <Row>() => chunk.rows.map(row => toRecord(chunk, row) as Row)
    switch (chunk.table.name) {
      case 'authorities': authorities.push(...records<AuthorityRow>()); break
      case 'leases': leases.push(...records<Schema['leases']>()); break
      case 'revocations': revocations.push(...records<RevocationRow>()); break
      case 'agents': bannedAgents.push(...records<AgentRow>().filter(({ banned }) => banned === 1)); break
      case 'policy_versions': for (const row of records<PolicyVersionRow>()) policies.add(namePolicies(row)); break
      case 'federation_relationships':
        for (const row of records<FederationRow>()) federation.set(row.trust_domain, describeFederation(row))
        break
      case 'bundles':
        for (const row of records<BundleRow>()) {
          bundles.set(row.trust_domain, digestBundle(row))
          if (row.trust_domain === header?.trustDomain) ownBundle = row
        }
        break
      default:
    }
  }
  return {
    header: header as unknown as BackupHeader, authorities, bannedAgents, revocations, bundles, federation, ownBundle, policies, leases
  }
}

/** The chunks of a backup, with progress told. */
export async function * countedChunks (
  path: string, what: Parameters<OnRows>[0], signal: AbortSignal, onRows?: OnRows, onHeader?: (header: BackupHeader) => void
): AsyncGenerator<RowChunk> {
  let total = 0
  let done = 0
  const chunks = readBackup(path, header => {
    total = Object.values(header.counts).reduce((sum, count) => sum + count, 0)
    onHeader?.(header)
  })
  for await (const chunk of chunks) {
    signal.throwIfAborted()
    yield chunk
    done += chunk.rows.length
    onRows?.(what, done, total)
  }
}

/** A database that was set back gives the same number to another set. */
export function namePolicies ({ number, revision, applied_at: appliedAt }: Omit<PolicyVersionRow, 'texts'>): string {
  return `${number} ${revision} ${appliedAt}`
}

/** Equal for relationships that say the same. */
export function describeFederation (row: FederationRow): string {
  return JSON.stringify([row.bundle_endpoint_url, row.bundle_endpoint_profile, row.endpoint_spiffe_id])
}

/** Equal for bundles that say the same. */
export function digestBundle (row: BundleRow): string {
  const content: WrittenRow = [row.trust_domain, row.sequence_number, row.refresh_hint, row.x509_authorities, row.jwt_authorities]
  return createHash('sha256').update(JSON.stringify(content)).digest('base64')
}
