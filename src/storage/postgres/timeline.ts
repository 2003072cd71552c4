/** The first eight digits of the name of the file being written; a standby writes none. */
export const timelineSql = 'case when pg_is_in_recovery() then \'\' else left(pg_walfile_name(pg_current_wal_insert_lsn()), 8) end'

export interface ServerTimeline {
  /** Names a cluster and its physical copies. */
  readonly cluster: string
  /** Eight hexadecimal digits; empty on a standby. */
  readonly timeline: string
}

/**
 * The newest timeline seen of each cluster. An old primary that comes back after its standby was promoted still takes writes, which
 * would be lost: it is on an older one.
 */
export class Timelines {
  readonly #newest = new Map<string, string>()

  /** @returns the newer timeline, if there is one */
  newerThan ({ cluster, timeline }: ServerTimeline): string | undefined {
    const newest = this.#newest.get(cluster)
    if (newest !== undefined && newest > timeline) return newest
    this.#newest.set(cluster, timeline)
    return undefined
  }
}
