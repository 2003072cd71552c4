import { mkdtempSync, rmSync } from 'node:fs'
import { DatabaseSync } from 'node:sqlite'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Test } from 'tap'
import { silentLogger } from '../../src/runtime/logger.ts'
import { backupDatastore, type BackupOptions } from '../../src/storage/backup/backup-datastore.ts'
import { copyDatastore, type CopyOptions } from '../../src/storage/backup/copy-datastore.ts'
import { restoreDatastore, type RestoreOptions, type RestoreReport } from '../../src/storage/backup/restore-datastore.ts'
import type { StoredAuthority } from '../../src/storage/authority-store.ts'
import type { Datastore } from '../../src/storage/datastore.ts'
import { openDatastore } from '../../src/storage/open-datastore.ts'
import { tables } from '../../src/storage/backup/tables.ts'
import { ManualClock } from '../fakes/clock.ts'
import { executeSql, postgresMissing, startPostgres } from '../fakes/postgres.ts'
import { makePolicyDraft } from '../fakes/policies.ts'
import { makeEndpoint, makeServiceDraft } from '../fakes/services.ts'
import { agent, bundle, domain, draft, id, now, relationship, selectors, type DatabaseKind } from './fixture.ts'

let files = 0

/** SQLite, and PostgreSQL where it is. */
export async function everyDatabase (t: Test): Promise<DatabaseKind[]> {
  const skip = postgresMissing()
  if (skip !== false) {
    await t.test('PostgreSQL', { skip }, () => {})
    return [sqlite]
  }
  const cluster = await startPostgres()
  t.teardown(() => cluster[Symbol.asyncDispose]())
  return [sqlite, { kind: 'postgres', fresh: () => cluster.createSchema(), execute: executeSql }]
}

const sqlite: DatabaseKind = {
  kind: 'sqlite',
  fresh: async t => join(folderOf(t), `${++files}.db`),
  execute: async (url, text) => {
    const database = new DatabaseSync(url)
    try {
      return database.prepare(text).all()
    } finally {
      database.close()
    }
  }
}

/** A path where no file is yet. */
export function newFile (t: Test): string { return join(folderOf(t), `${++files}.backup`) }

/** Gone when the test ends. */
function folderOf (t: Test): string {
  const folder = mkdtempSync(join(tmpdir(), 'assay-backup-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  return folder
}

const common = { now, log: silentLogger, signal: new AbortController().signal }

export const backUp = (url: string, file: string, rest: Partial<BackupOptions> = {}) => backupDatastore({ url, file, ...common, ...rest })

export const move = (from: string, to: string, rest: Partial<CopyOptions> = {}) => copyDatastore({ from, to, ...common, ...rest })

/** @returns what it told before it wrote, and the new epoch */
export async function restore (file: string, url: string, rest: Partial<RestoreOptions> = {}): Promise<RestoreReport & { epoch: string }> {
  let report: RestoreReport | undefined
  const epoch = await restoreDatastore({
    url, file, force: false, discardRevocations: false, ...common, onReport: told => { report = told }, ...rest
  })
  return { ...report as RestoreReport, epoch }
}

/** Findings in short: `2 entry_deleted comes_back`. */
export function inShort ({ findings }: Pick<RestoreReport, 'findings'>): string[] {
  return findings.map(({ total, kind, outcome }) => `${total} ${kind} ${outcome}`)
}

/** Opens the database as a server does, for as long as `work` runs. */
export async function withStore<T> (url: string, work: (store: Datastore) => Promise<T>): Promise<T> {
  await using store = await openDatastore(url, { clock: new ManualClock(now), log: silentLogger })
  return await work(store)
}

export function authority (authorityId: string, rest: Partial<StoredAuthority> = {}): StoredAuthority {
  const publicKey = new TextEncoder().encode(`key of ${authorityId}`)
  return {
    authorityId,
    kind: 'x509',
    slot: 'A',
    state: 'active',
    publicKey,
    certificate: new TextEncoder().encode(`certificate of ${authorityId}`),
    notBefore: now,
    notAfter: new Date(now.getTime() + 86_400_000),
    ...rest
  }
}

/** A bundle with these X.509 authorities and a JWT key. */
export function ownBundle (...authorities: readonly StoredAuthority[]) {
  return bundle('example.org', {
    x509Authorities: authorities.map(({ certificate = new Uint8Array() }) => ({ certificate, tainted: false })),
    jwtAuthorities: [{ keyId: 'kid', publicKey: Uint8Array.of(1, 2, 3), expiresAt: new Date(now.getTime() + 86_400_000), tainted: false }],
    sequenceNumber: 7n,
    refreshHintSeconds: 300
  })
}

/** Something in every table, and of every kind that a column can hold. */
export async function fill (store: Datastore, many = 1_100): Promise<void> {
  const x509 = authority('aaaa')
  await store.authorities.save([authority('9999', { state: 'revoked', slot: 'B', upstreamAuthorityId: 'above', owner: 'replica' }), x509])
  await store.authorities.save([authority('kid', { kind: 'jwt', certificate: undefined })])
  await store.bundles.set(ownBundle(x509))
  await store.bundles.set(bundle('large.test', { sequenceNumber: 2n ** 64n - 1n, refreshHintSeconds: undefined }))
  await store.bundles.set(bundle('gone.test'))
  await store.bundles.set(bundle('plain.test', { sequenceNumber: undefined }))
  await store.bundles.delete(domain('gone.test'), 'restrict')
  await store.entries.createMany([
    draft('plain', { id: 'plain' }),
    draft('full', {
      id: 'full',
      selectors: selectors('unix:uid:1', 'unix:path:/bin/ä"\\\n\u{1F600}', 'k8s:ns:x'),
      federatesWith: [domain('plain.test'), domain('large.test')],
      dnsNames: ['b.test', 'a.test'],
      admin: true,
      downstream: true,
      storeSvid: true,
      hint: 'Ünïcode \u0001 hint',
      x509SvidTtlSeconds: 2_147_483_647,
      expiresAtSeconds: 253_402_300_799,
      additionalAttributes: { disableX509SvidPrefetch: true, jwtSvidIncludeJti: true }
    }),
    draft('gone', { id: 'gone' }),
    ...Array.from({ length: many }, (_, n) => draft(`many/${n}`, { id: `many-${n}`, selectors: selectors(`unix:uid:${n}`) }))
  ])
  await store.entries.deleteMany(['gone'])
  await store.entries.updateMany([{ id: 'plain', change: { hint: 'changed' } }])
  await store.federation.create(relationship('plain.test'))
  await store.federation.create(relationship('large.test', 'spiffe://large.test/spire/server', 'https://[::1]:8443/b?x=%20y'))
  await store.services.createMany([
    makeServiceDraft({ id: 'bare' }),
    makeServiceDraft({
      id: 'full', name: 'full', address: '2001:db8::1', callers: ['spiffe://example.org/shop/*'],
      ports: [{ name: 'http', port: 80, targetPort: 8080, protocol: 'http', localPort: 1080 }]
    })
  ])
  await store.services.updateMany([makeServiceDraft({ id: 'bare', name: 'renamed' })])
  const endpoint = makeEndpoint('renewed')
  await store.endpoints.replace(new Map([[endpoint.agentId, [endpoint]]]))
  await store.policies.apply(makePolicyDraft(), 0)
  await store.policies.apply({ ...makePolicyDraft(['ä"\\\n\u{1F600}']), comment: 'Ü\n', selectors: [['unix:uid:1']] }, 1)
  await store.joinTokens.create('a-token', new Date(now.getTime() + 600_000))
  await store.agents.attest(agent('renewed', { selectors: selectors('x:y', 'x:z'), canReattest: true, agentVersion: '1.2.3' }))
  await store.agents.setNewSerial(id('/spire/agent/join_token/renewed'), 'b2', new Date(now.getTime() + 7_200_000))
  await store.agents.attest(agent('banned', { selectors: selectors('x:y') }))
  await store.agents.ban(id('/spire/agent/join_token/banned'))
  const until = new Date(now.getTime() + 3_600_000)
  await store.issuedSvids.record(['revoked', 'other'].map((name, index) => ({
    digest: `${index}f`.repeat(32), serialNumber: `${index}`, spiffeId: id(`/${name}`), agentId: undefined, replicaId: 'r', issuedAt: now,
    notAfter: until
  })))
  await store.revocations.revoke({ kind: 'spiffe_id', subject: id('/revoked'), until, reason: 'Ü\n"\u{1F600}', revokedBy: 'a test' })
  await store.keys.put('x509-CA-A', Uint8Array.of(0, 255, 128))
  await store.leases.acquire('chores', 'somebody', 15_000)
  await store.progress.report([{
    agentId: id('/spire/agent/join_token/renewed'),
    replicaId: 'r',
    state: 'acknowledged',
    cursor: await store.log.head(),
    unservedEntryIds: [],
    seenAt: now
  }])
}

/** Rows as text, by table: what both databases can be compared by. Read past the code under test. */
export async function dump (
  database: DatabaseKind, url: string, names: readonly string[] = tables.map(({ name }) => name)
): Promise<Record<string, string[]>> {
  const dumped: Record<string, string[]> = {}
  for (const name of names) {
    const rows = await database.execute(url, `select * from ${name}`)
    dumped[name] = rows.map(row => JSON.stringify(Object.entries(row).toSorted(([a], [b]) => a < b ? -1 : 1).map(shown))).toSorted()
  }
  return dumped
}

/** What tells that nothing at all was written. */
export const everything = [
  ...tables.map(({ name }) => name as string), 'log_head', 'change_log', 'replicas', 'agent_progress', 'partner_states',
  'service_endpoints', 'schema_migrations'
]

function shown ([column, value]: [string, unknown]): [string, unknown] {
  if (value instanceof Uint8Array) return [column, Buffer.from(value).toString('hex')]
  return [column, typeof value === 'number' ? `${value}` : value]
}
