import { setTimeout as sleep } from 'node:timers/promises'
import type { Bundle } from '../../src/spiffe/bundle.ts'
import { svidService } from '../../src/wire/generated/server-svid.ts'
import { newRequest, type AgentIdentity, type BedServer, type TestBed } from '../measure/test-bed.ts'

/** As many entries as SPIRE's agent had when it was measured elsewhere. */
const entryCount = 200
/** SPIRE's server looks for changes every 5 s. */
const knownTimeoutMs = 60_000

/** A server that is asked, an agent that has joined it, and what this agent may ask for. */
export interface Subject extends AsyncDisposable {
  readonly name: string
  readonly bed: TestBed<BedServer>
  readonly agent: AgentIdentity
  readonly entries: readonly SubjectEntry[]
  readonly bundle: Bundle
}

export interface SubjectEntry {
  readonly id: string
  /** Of its SPIFFE ID. */
  readonly path: string
}

/** On return the server gives the agent an SVID of each entry. @param bed ends with it */
export async function openSubject (name: string, bed: TestBed<BedServer>): Promise<Subject> {
  await using scope = new AsyncDisposableStack()
  scope.use(bed)
  const agent = await bed.attest(await bed.joinToken())
  const paths = Array.from({ length: entryCount }, (_, index) => `/workload/${index}`)
  const ids = await bed.createEntries(paths.map((path, index) => ({
    spiffeId: { trustDomain: 'example.org', path }, parentId: agent.id, selectors: [{ type: 'unix', value: `uid:${index}` }]
  })))
  const entries = ids.map((id, index) => ({ id, path: paths[index] as string }))
  await untilKnown(name, bed, agent, entries)
  const owned = scope.move()
  return { name, bed, agent, entries, bundle: await bed.bundle(), [Symbol.asyncDispose]: () => owned.disposeAsync() }
}

async function untilKnown (name: string, bed: TestBed<BedServer>, agent: AgentIdentity, entries: readonly SubjectEntry[]): Promise<void> {
  const client = bed.connect(agent).client(svidService)
  const { csr } = newRequest()
  const end = performance.now() + knownTimeoutMs
  for (;;) {
    const { results } = await client.batchNewX509SVID({ params: entries.map(({ id }) => ({ entryId: id, csr })) })
    if (results.every(({ status }) => status?.code === 0)) return
    if (performance.now() > end) throw new Error(`${name} does not sign for its agent: ${results[0]?.status?.message}`)
    await sleep(200)
  }
}
