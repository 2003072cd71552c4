import { cpuMsOf, cpuMsOfFamily, residentMibOf } from '../measure/process-usage.ts'
import { median } from '../measure/statistics.ts'
import type { Row, Section } from '../suite.ts'
import { signCases, type SignCase } from './sign-cases.ts'
import type { OpenStore } from './stores.ts'
import type { Subject } from './subject.ts'

/** What one server needed for one case, a value for each round. */
interface Figures {
  readonly cpuMs: number[]
  readonly databaseMs: number[]
  readonly perSecond: number[]
}

interface Side {
  readonly subject: Subject
  readonly cases: readonly SignCase[]
  readonly figures: readonly Figures[]
}

/** Each server of a store gets each case once a round, one right after the other: a change of the machine's mood meets all alike. */
export class Turns {
  readonly #store: OpenStore
  readonly #assay: Side
  readonly #spire: Side | undefined

  constructor (store: OpenStore, scale: number) {
    this.#store = store
    this.#assay = sideOf(store.assay, scale)
    this.#spire = store.spire === undefined ? undefined : sideOf(store.spire, scale)
  }

  /** @param round below 0: a warm-up, which leaves no figures */
  async play (round: number): Promise<void> {
    const sides = this.#spire === undefined ? [this.#assay] : [this.#assay, this.#spire]
    // Who is second may find a warmer machine, or what the first has left to be written.
    const order = round % 2 === 0 ? sides : sides.toReversed()
    for (const index of this.#assay.cases.keys()) {
      for (const { cases, figures, subject } of order) {
        const measured = await this.#measure(cases[index] as SignCase, subject.bed.server.pid)
        if (round < 0) continue
        for (const key of ['cpuMs', 'databaseMs', 'perSecond'] as const) figures[index]?.[key].push(measured[key])
      }
    }
  }

  sections (store: string): Section[] {
    const rows = (key: keyof Figures, unit: string, more: (row: Row, one: SignCase) => Row = row => row) =>
      this.#assay.cases.map((one, index) => more({
        what: one.what, unit, values: this.#assay.figures[index]?.[key] ?? [], peer: this.#spire?.figures[index]?.[key]
      }, one))
    const memory = (side: Side | undefined) => side === undefined ? undefined : [residentMibOf(side.subject.bed.server.pid)]
    return [
      { title: `Server CPU per operation, ${store}`, rows: rows('cpuMs', 'ms', withBudget), notes: [] },
      ...this.#store.databasePid === undefined ? [] : [
        { title: `CPU of the database per operation, ${store}`, rows: rows('databaseMs', 'ms'), notes: [] }
      ],
      {
        title: `Operations per second, ${store}`,
        rows: [
          ...rows('perSecond', '/s', row => ({ ...row, better: 'higher' })),
          { what: 'server RSS at the end', unit: 'MiB', values: memory(this.#assay) ?? [], peer: memory(this.#spire) }
        ],
        notes: ['Clients, servers and database share the cores; a rate is a lower bound.']
      }
    ]
  }

  async #measure (one: SignCase, pid: number): Promise<Record<keyof Figures, number>> {
    const { databasePid } = this.#store
    const databaseCpu = () => databasePid === undefined ? 0 : cpuMsOfFamily(databasePid)
    const round = await one.prepare()
    const [cpu, database, begin] = [cpuMsOf(pid), databaseCpu(), performance.now()]
    await round()
    const seconds = (performance.now() - begin) / 1_000
    return {
      cpuMs: (cpuMsOf(pid) - cpu) / one.operations,
      databaseMs: (databaseCpu() - database) / one.operations,
      perSecond: one.operations / seconds
    }
  }
}

function sideOf (subject: Subject, scale: number): Side {
  const cases = signCases(subject, scale)
  return { subject, cases, figures: cases.map(() => ({ cpuMs: [], databaseMs: [], perSecond: [] })) }
}

/** Budgets are parts of what SPIRE needs in the same run. */
function withBudget (row: Row, { share }: SignCase): Row {
  if (share === undefined || row.peer === undefined) return row
  const limit = median(row.peer) * share
  return { ...row, budget: [limit, limit] }
}
