import { openUnixChannel } from '../../src/rpc/channel.ts'
import { entryService } from '../../src/wire/generated/server-entry.ts'
import type { RunningServer } from '../fakes/processes.ts'
import { Administrator } from '../interop/administrator.ts'

const parent = 'spiffe://example.org/spire/agent/nowhere'
const callTimeoutMs = 5_000

/** Creates and deletes entries at whichever replica answers, and remembers what was confirmed. */
export class CommittedWrites {
  readonly #there = new Set<string>()
  readonly #gone = new Set<string>()
  readonly #servers: () => readonly RunningServer[]
  readonly #stop = new AbortController()
  readonly #loops: Promise<unknown>
  #created = 0

  constructor (servers: () => readonly RunningServer[]) {
    this.#servers = servers
    this.#loops = Promise.all(servers().map((_, seat) => this.#loop(seat)))
  }

  get confirmed (): { readonly created: number, readonly deleted: number } {
    return { created: this.#there.size + this.#gone.size, deleted: this.#gone.size }
  }

  async stop (): Promise<void> {
    this.#stop.abort()
    await this.#loops
  }

  /** What a replica says that contradicts its predecessors' confirmations: entries lost, and deleted ones that are back. */
  async contradictions (server: RunningServer): Promise<string[]> {
    await using operator = new Administrator(server)
    const listed = new Set<string>()
    for (let pageToken = '', more = true; more; more = pageToken !== '') {
      const { entries, nextPageToken } = await operator.entries.listEntries({ pageSize: 1_000, pageToken })
      for (const { id } of entries) listed.add(id)
      pageToken = nextPageToken
    }
    const lost = [...this.#there].filter(id => !listed.has(id)).map(id => `lost ${id}`)
    return [...lost, ...[...this.#gone].filter(id => listed.has(id)).map(id => `back ${id}`)]
  }

  /** Creates, and deletes at each third turn; an unconfirmed call may have happened or not, and counts for nothing. */
  async #loop (seat: number): Promise<void> {
    const mine: string[] = []
    let turns = 0
    while (!this.#stop.signal.aborted) {
      const server = this.#servers()[seat] as RunningServer
      await using channel = openUnixChannel(server.adminSocket)
      const client = channel.client(entryService)
      try {
        while (server === this.#servers()[seat] && !this.#stop.signal.aborted) {
          const id = await create(client, `spiffe://example.org/written/${seat}/${++this.#created}`)
          this.#there.add(id)
          mine.push(id)
          if (++turns % 3 === 0) await this.#delete(client, mine.shift() as string)
          await pause()
        }
      } catch {
        // The replica is away, or cut off from the database; the next attempt may find it back.
        await pause()
      }
    }
  }

  async #delete (client: ReturnType<typeof entries>, id: string): Promise<void> {
    this.#there.delete(id)
    const [result] = (await client.batchDeleteEntry({ ids: [id] }, { timeoutMs: callTimeoutMs })).results
    if (result?.status?.code === 0) this.#gone.add(id)
  }
}

function entries (channel: ReturnType<typeof openUnixChannel>) { return channel.client(entryService) }

async function create (client: ReturnType<typeof entries>, id: string): Promise<string> {
  const path = id.slice('spiffe://example.org'.length)
  const entry = {
    spiffeId: { trustDomain: 'example.org', path },
    parentId: { trustDomain: 'example.org', path: parent.slice('spiffe://example.org'.length) },
    selectors: [{ type: 'unix', value: 'uid:1' }]
  }
  const [result] = (await client.batchCreateEntry({ entries: [entry] }, { timeoutMs: callTimeoutMs })).results
  if (result?.status?.code !== 0 || result.entry === undefined) throw new Error(`not created: ${result?.status?.message}`)
  return result.entry.id
}

/** Writers that leave the machine to those on trial. */
async function pause (): Promise<void> {
  await new Promise(resolve => setTimeout(resolve, 25))
}
