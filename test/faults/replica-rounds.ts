import type { Test } from 'tap'
import { openUnixChannel } from '../../src/rpc/channel.ts'
import { Mailbox } from '../../src/runtime/mailbox.ts'
import { agentSyncService, type SyncRequestInit } from '../../src/wire/generated/agent-sync.ts'
import { entryService } from '../../src/wire/generated/server-entry.ts'
import { parseCertificate } from '../../src/x509/certificate.ts'
import { attest, openServerChannel } from '../fakes/agent-client.ts'
import { until } from '../fakes/envoy.ts'
import { executeSql } from '../fakes/postgres.ts'
import { Administrator, idMessage } from '../interop/administrator.ts'
import { CommittedWrites } from './committed-writes.ts'
import { ReplicaMesh } from './replica-mesh.ts'

export interface ReplicaRounds {
  /** Seats of the replicas to kill, one after the other; each comes back. */
  readonly kills: readonly number[]
  /** How often the holder of the lease is paused past it. */
  readonly pauses: number
  /** Life of a CA: short ones make rotations fall due while their holder is paused. */
  readonly caTtl: string
  /** Which replica is lost for good at last. */
  readonly lost: 'holder of the lease' | 'another'
}

/** The lease's term, and what a loaded machine adds. */
const pastLeaseMs = 18_000
/** What is left of a lease that its holder renewed a moment ago. */
const justRenewedMs = 13_000
const anyOther = (seat: number) => (seat + 1) % 3

/** Breaks whatever can break, one after the other, under load and writes; nothing of it may be seen. */
export async function replicaRounds (t: Test, { kills, pauses, caTtl, lost }: ReplicaRounds): Promise<void> {
  await using mesh = await ReplicaMesh.open({ ca_ttl: caTtl, default_x509_svid_ttl: '30s' })
  const writes = new CommittedWrites(() => mesh.servers)
  try {
    t.comment(`a change is served by both agents after ${await mesh.untilServed(0)} ms while nothing is broken`)
    for (const seat of kills) await killed(t, mesh, seat)
    await postgresRestarted(t, mesh)
    await cutOff(t, mesh)
    for (let n = 0; n < pauses; n++) await paused(t, mesh)
    const holder = await mesh.holderAt(0)
    await lostForGood(t, mesh, lost === 'another' ? anyOther(holder) : holder)
  } finally {
    await writes.stop()
  }
  const left = mesh.servers.filter(({ process }) => process.running)
  t.equal(left.length, 2, 'two replicas are left')
  for (const server of left) t.strictSame(await writes.contradictions(server), [], `${server.address} knows all that was confirmed`)
  t.ok(writes.confirmed.deleted > 10, `${writes.confirmed.created} confirmed creations, ${writes.confirmed.deleted} confirmed deletions`)
  const { failures, requests } = await mesh.load.stop()
  t.strictSame(failures, [], `none of ${requests} requests through Envoy failed`)
  t.ok(requests > 500 && mesh.load.certificates.size > 1, `${mesh.load.certificates.size} certificates carried them`)
  t.ok(mesh.agents.every(({ process }) => process.running) && mesh.envoys.every(({ running }) => running), 'agents and Envoys live')
  await checkAuthorities(t, mesh)
}

async function killed (t: Test, mesh: ReplicaMesh, seat: number): Promise<void> {
  await mesh.server(seat).kill9()
  t.comment(`kill -9 of replica ${seat}: both agents serve a change made elsewhere after ${await mesh.untilServed(anyOther(seat))} ms`)
  await mesh.restart(seat)
}

async function postgresRestarted (t: Test, mesh: ReplicaMesh): Promise<void> {
  await mesh.postgres.stop()
  await using operator = new Administrator(mesh.server(0))
  await t.rejects(operator.register('spiffe://example.org/refused', 'spiffe://example.org/nobody'),
    'a write without the database is refused, and not kept for later')
  await mesh.postgres.start()
  t.comment(`PostgreSQL is back: a change is served by both agents after ${await mesh.untilServed(0)} ms`)
}

/** One replica loses the database without a word, and an agent is banned where it cannot hear of it. */
async function cutOff (t: Test, mesh: ReplicaMesh): Promise<void> {
  const seat = await mesh.holderAt(0)
  const cut = mesh.server(seat)
  const elsewhere = mesh.server(anyOther(seat))
  await using admin = openUnixChannel(elsewhere.adminSocket)
  const identity = await attest({ ready: elsewhere, admin })
  const id = parseCertificate(identity.chain[0] as Uint8Array).uriSans[0] as string
  await using asAgent = openServerChannel({ ready: cut }, identity)
  const entries = asAgent.client(entryService)
  await t.resolves(entries.getAuthorizedEntries({}), 'the agent is welcome at the replica that will be cut off')
  const requests = new Mailbox<SyncRequestInit>()
  requests.put({})
  const stream = asAgent.client(agentSyncService).sync(requests)[Symbol.asyncIterator]()
  await stream.next()

  mesh.link(seat).cut()
  const cutAtMs = performance.now()
  await using operator = new Administrator(elsewhere)
  await operator.agents.banAgent({ id: idMessage(id) })
  const code = async () => await entries.getAuthorizedEntries({}, { timeoutMs: 20_000 }).then(() => '', error => String(error.code))
  await t.rejects(drained(stream), { code: 'replica_stale' }, 'its stream at the cut replica ends')
  t.comment(`the cut replica ended the stream of an agent banned elsewhere after ${Math.round(performance.now() - cutAtMs)} ms`)
  t.equal(await code(), 'replica_stale', 'its old SVID is refused by the replica that cannot know of the ban')
  t.comment(`both agents serve a change made elsewhere ${await mesh.untilServed(anyOther(seat))} ms later`)
  t.equal(await code(), 'replica_stale', 'and stays refused')
  mesh.link(seat).mend()
  await until('the replica to have caught up', async () => await code() === 'agent_banned', 40_000)
  await until('it to serve again', async () => {
    await using operator = new Administrator(cut)
    return await operator.entries.countEntries({}, { timeoutMs: 5_000 }).then(() => true, () => false)
  })
}

async function drained (stream: AsyncIterator<unknown>): Promise<void> {
  while ((await stream.next()).done !== true);
}

/** The holder of the lease stands still until another has it, and goes on as if nothing had been. */
async function paused (t: Test, mesh: ReplicaMesh): Promise<void> {
  await until('the lease to be held, and not just left over', async () => {
    const { leaseExpiresAt } = await mesh.status(0)
    return Number(leaseExpiresAt) - Date.now() > justRenewedMs
  })
  const seat = await mesh.holderAt(0)
  const holder = mesh.server(seat)
  const other = anyOther(seat)
  const lines = holder.process.lines().length
  holder.process.pause()
  const startedMs = performance.now()
  await until('another replica to do the chores', async () => {
    const now = await mesh.choresAt(other)
    return now !== seat && now !== -1
  }, 60_000)
  t.comment(`the chores of a paused replica were taken over after ${Math.round(performance.now() - startedMs)} ms`)
  t.comment(`both agents serve a change made meanwhile after ${await mesh.untilServed(other)} ms`)
  await until('the lease to be long over', () => performance.now() - startedMs > pastLeaseMs)
  const before = await journal(mesh)
  const made = () => mesh.servers.flatMap(({ process }) => process.lines()).filter(({ msg }) => changesAuthority.test(String(msg))).length
  const madeBefore = made()
  holder.process.resume()
  const after = () => holder.process.lines().slice(lines).map(line => String(line['msg']))
  await until('the paused replica to notice', () => after().includes('another replica has taken the chores over'), 30_000)
  await until('it to follow the others again', async () => {
    const [own, others] = [await mesh.status(seat), await mesh.status(other)]
    return own.leaseHolder === others.leaseHolder && (own.authorities.length === others.authorities.length)
  })
  t.notOk(after().some(message => changesAuthority.test(message)), 'it changed no authority')
  // Where its successor rotated just then, the journal may differ.
  const now = await journal(mesh)
  if (made() === madeBefore) t.strictSame(now, before, 'authorities, keys and bundle are what they were when it woke up')
  const fenced = after().filter(message => message.endsWith('is another replica\'s now'))
  t.comment(fenced.length > 0 ? `it tried, and the database refused: ${fenced.join(', ')}` : 'it had nothing to write before it noticed')
}

const changesAuthority = /authority (prepared|activated|tainted|revoked)/

async function journal (mesh: ReplicaMesh): Promise<unknown[]> {
  return [
    await executeSql(mesh.databaseUrl, 'select kind, authority_id, state from authorities order by kind, authority_id'),
    await executeSql(mesh.databaseUrl, 'select id from wrapped_keys order by id'),
    await executeSql(mesh.databaseUrl, 'select x509_authorities, jwt_authorities from bundles')
  ]
}

async function lostForGood (t: Test, mesh: ReplicaMesh, seat: number): Promise<void> {
  await mesh.server(seat).kill9()
  t.comment(`a replica is lost for good: a change is served by both agents after ${await mesh.untilServed(anyOther(seat))} ms`)
  await until('the chores to be done by one that is left', async () => {
    const now = await mesh.choresAt(anyOther(seat))
    return now !== -1 && now !== seat
  }, 60_000)
}

/** Each authority in the database was made by a replica that held the lease and said so; each has its key, and the bundle has each once. */
async function checkAuthorities (t: Test, mesh: ReplicaMesh): Promise<void> {
  const rows = await executeSql(mesh.databaseUrl, 'select kind, state, count(*)::int as count from authorities group by kind, state')
  for (const kind of ['x509', 'jwt']) {
    const counts = new Map(rows.filter(row => row['kind'] === kind).map(row => [row['state'], Number(row['count'])]))
    t.equal(counts.get('active'), 1, `one active ${kind} authority`)
    t.ok((counts.get('prepared') ?? 0) <= 1, `at most one prepared ${kind} authority`)
  }
  const [bundle] = await executeSql(mesh.databaseUrl, 'select x509_authorities from bundles where trust_domain = \'example.org\'')
  const roots = (JSON.parse(String(bundle?.['x509_authorities'])) as unknown[]).map(root => JSON.stringify(root))
  t.equal(new Set(roots).size, roots.length, 'no root is in the bundle twice')
  const [known] = await executeSql(mesh.databaseUrl, 'select count(*)::int as count from authorities where kind = \'x509\'')
  t.equal(roots.length, known?.['count'], 'the bundle has the roots of the journal, and no other')
}

