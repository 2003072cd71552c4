import { cpuMsOf } from '../measure/process-usage.ts'
import { median } from '../measure/statistics.ts'
import { TestBed } from '../measure/test-bed.ts'
import type { Range, Row, Section, SuiteOptions } from '../suite.ts'
import { measureCrypto } from './crypto-floor.ts'
import { openGoFloor, type GoFigures } from './go-floor.ts'
import { signCases, type SignCase } from './sign-cases.ts'

/** As many entries as SPIRE's agent had. */
const entryCount = 200
/** Go's pipeline in ms when SPIRE was measured: parse and check a CSR, make a certificate. Tells how fast that machine was then. */
const goPipelineThen = 0.402

/**
 * Server CPU for what agents ask: the server is a process of its own, its clients are this process. Every round does every case once,
 * floors included, so that a change of the machine's mood meets all alike.
 */
export async function runSign ({ quick, progress }: SuiteOptions): Promise<readonly Section[]> {
  const [warmUps, rounds, eachMs] = quick ? [1, 2, 20] : [2, 7, 300]
  progress('building the Go program')
  const go = await openGoFloor()
  await using bed = await TestBed.open()
  const agent = await bed.attest(await bed.joinToken())
  const entryIds = await bed.createEntries(Array.from({ length: entryCount }, (_, index) => ({
    spiffeId: { trustDomain: 'example.org', path: `/workload/${index}` },
    parentId: agent.id,
    selectors: [{ type: 'unix', value: `uid:${index}` }]
  })))
  const cases = signCases({ bed, agent, entryIds, bundle: await bed.bundle(), scale: quick ? 0.01 : 1 })
  const results = cases.map(() => ({ cpuMs: [] as number[], perSecond: [] as number[] }))
  const floors = { node: [] as { sign: number, verify: number }[], go: [] as GoFigures[] }

  for (let round = -warmUps; round < rounds; round++) {
    progress(round < 0 ? `warm-up ${round + warmUps + 1} of ${warmUps}` : `round ${round + 1} of ${rounds}`)
    for (const [index, one] of cases.entries()) {
      const figures = await measureRound(one, bed.server.pid)
      if (round < 0) continue
      results[index]?.cpuMs.push(figures.cpuMs)
      results[index]?.perSecond.push(figures.perSecond)
    }
    if (round < 0) continue
    floors.node.push(measureCrypto(eachMs))
    if (go !== undefined) floors.go.push(await go.measure(eachMs))
  }

  const costs = cases.map((one, index) => ({ one, cpuMs: results[index]?.cpuMs ?? [] }))
  return [
    { title: 'Server CPU per operation', rows: costs.map(({ one, cpuMs }) => cpuRow(one, cpuMs)), notes: [] },
    { title: 'Floors in the same run', rows: floorRows(floors), notes: go === undefined ? ['Go is not on PATH: no floor of Go.'] : [] },
    ...go === undefined ? [] : [relativeSection(costs, floors.go)],
    {
      title: 'Operations per second',
      rows: cases.map((one, index) => ({ what: one.what, unit: '/s', values: results[index]?.perSecond ?? [], better: 'higher' as const })),
      notes: ['Clients, server and database share the cores; a rate is a lower bound.']
    }
  ]
}

async function measureRound (one: SignCase, pid: number): Promise<{ cpuMs: number, perSecond: number }> {
  const round = await one.prepare()
  const [cpu, begin] = [cpuMsOf(pid), performance.now()]
  await round()
  return { cpuMs: (cpuMsOf(pid) - cpu) / one.operations, perSecond: one.operations * 1000 / (performance.now() - begin) }
}

function cpuRow ({ what, spire, share }: SignCase, values: readonly number[]): Row {
  return { what, unit: 'ms', values, spire, ...share === undefined ? {} : { budget: part(spire, share) } }
}

function floorRows ({ node, go }: { node: readonly { sign: number, verify: number }[], go: readonly GoFigures[] }): Row[] {
  const row = (what: string, values: readonly number[]) => ({ what, unit: 'us', values })
  return [
    row('node:crypto, P-256 sign', node.map(({ sign }) => sign)),
    row('node:crypto, P-256 verify', node.map(({ verify }) => verify)),
    ...go.length === 0 ? [] : [
      row('Go, P-256 sign', go.map(({ sign }) => sign)),
      row('Go, P-256 verify', go.map(({ verify }) => verify)),
      row('Go, CreateCertificate', go.map(({ create }) => create)),
      row('Go, ParseCertificateRequest + CheckSignature + CreateCertificate', go.map(({ pipeline }) => pipeline))
    ]
  ]
}

/** Each case in units of Go's pipeline, which makes runs on a slow and on a fast day comparable. */
function relativeSection (costs: ReadonlyArray<{ one: SignCase, cpuMs: readonly number[] }>, go: readonly GoFigures[]): Section {
  const pipelineMs = median(go.map(({ pipeline }) => pipeline)) / 1000
  const then = ([low, high]: Range): Range => [low / goPipelineThen, high / goPipelineThen]
  return {
    title: 'The same in units of Go\'s pipeline (parse, verify, create) of the same machine and time',
    rows: costs.map(({ one, cpuMs }) => ({ ...cpuRow({ ...one, spire: then(one.spire) }, cpuMs.map(ms => ms / pipelineMs)), unit: 'x' })),
    notes: [
      `When SPIRE was measured the machine was busy and Go's pipeline took ${goPipelineThen} ms, now ${pipelineMs.toFixed(3)} ms: ` +
      'compare these ratios before the milliseconds above.'
    ]
  }
}

function part ([low, high]: Range, share: number): Range { return [low * share, high * share] }
