import { entryService } from '../../src/wire/generated/server-entry.ts'
import type { EntryInit } from '../../src/wire/generated/types.ts'
import { cpuMsOf } from '../measure/process-usage.ts'
import type { AgentIdentity, TestBed } from '../measure/test-bed.ts'

/** Entries in one call: what SPIRE was measured with. */
const batch = 50
const outputMask = { spiffeId: true, selectors: true, federatesWith: true, revisionNumber: true, hint: true, createdAt: true }

export interface Stretch { readonly perSecond: number, readonly cpuMs: number }

/** One administrator and one agent, whose entries all are: a common parent and one common selector, as SPIRE was measured. */
export class EntryLoad {
  readonly #bed: TestBed
  readonly #agent: AgentIdentity
  readonly #sync
  #next = 0
  #ids: string[] = []

  constructor (bed: TestBed, agent: AgentIdentity) {
    this.#bed = bed
    this.#agent = agent
    this.#sync = bed.connect(agent)
  }

  get stored (): number { return this.#ids.length }

  /** @param count a multiple of 50 */
  async create (count: number): Promise<Stretch> {
    const batches = Array.from({ length: count / batch }, () => Array.from({ length: batch }, () => this.#newEntry()))
    return await this.#measure(count, async () => {
      for (const entries of batches) this.#ids.push(...await this.#bed.createEntries(entries))
    })
  }

  async deleteAll (): Promise<Stretch> {
    const ids = this.#ids.splice(0)
    return await this.#measure(ids.length, async () => {
      for (let start = 0; start < ids.length; start += batch) {
        const { results } = await this.#bed.entries.batchDeleteEntry({ ids: ids.slice(start, start + batch) })
        const failed = results.find(({ status }) => status?.code !== 0)
        if (failed !== undefined) throw new Error(`an entry was not deleted: ${failed.status?.message}`)
      }
    })
  }

  /** All pages of 500. @returns ms of wall time and of server CPU */
  async listAll (): Promise<{ wallMs: number, cpuMs: number }> {
    return await this.#timed(async () => {
      let seen = 0
      for (let pageToken = '', first = true; first || pageToken !== ''; first = false) {
        const page = await this.#bed.entries.listEntries({ pageSize: 500, pageToken })
        seen += page.entries.length
        pageToken = page.nextPageToken
      }
      if (seen !== this.stored) throw new Error(`${seen} entries listed of ${this.stored}`)
    })
  }

  /** `polls` synchronisations of an agent that knows everything already: it reads all revisions and asks for nothing. */
  async pollWarm (polls: number): Promise<{ wallMs: number, cpuMs: number }> {
    const { wallMs, cpuMs } = await this.#timed(async () => {
      for (let poll = 0; poll < polls; poll++) await this.#poll()
    })
    return { wallMs: wallMs / polls, cpuMs: cpuMs / polls }
  }

  async #poll (): Promise<void> {
    const { promise: read, resolve: finish } = Promise.withResolvers<void>()
    const requests = (async function * () {
      yield { outputMask }
      await read
    })()
    let seen = 0
    for await (const page of this.#sync.client(entryService).syncAuthorizedEntries(requests)) {
      seen += page.entryRevisions.length + page.entries.length
      if (!page.more) finish()
    }
    if (seen !== this.stored) throw new Error(`${seen} entries synchronised of ${this.stored}`)
  }

  #newEntry (): EntryInit {
    const index = this.#next++
    return {
      spiffeId: { trustDomain: 'example.org', path: `/workload/${index}` },
      parentId: this.#agent.id,
      selectors: [{ type: 'unix', value: 'uid:1000' }, { type: 'unix', value: `path:/opt/workload-${index}/bin/run` }]
    }
  }

  async #measure (count: number, work: () => Promise<void>): Promise<Stretch> {
    const { wallMs, cpuMs } = await this.#timed(work)
    return { perSecond: count * 1000 / wallMs, cpuMs: cpuMs / count }
  }

  async #timed (work: () => Promise<void>): Promise<{ wallMs: number, cpuMs: number }> {
    const { pid } = this.#bed.server
    const [cpu, begin] = [cpuMsOf(pid), performance.now()]
    await work()
    return { wallMs: performance.now() - begin, cpuMs: cpuMsOf(pid) - cpu }
  }
}
