import { findSpireServer, withoutSpire } from '../measure/spire-server.ts'
import type { Row, Section, SuiteOptions } from '../suite.ts'
import { measureCrypto } from './crypto-floor.ts'
import { openGoFloor, type GoFigures } from './go-floor.ts'
import { stores } from './stores.ts'
import { Turns } from './turns.ts'

interface Floors {
  readonly node: Array<{ readonly sign: number, readonly verify: number }>
  readonly go: GoFigures[]
}

/**
 * Server CPU and rates for what agents ask, beside a real SPIRE server where its program is given: each server is a process of its own, the
 * clients of all are this process. Every round does every case once with every server, and the floors.
 */
export async function runSign ({ quick, progress }: SuiteOptions): Promise<readonly Section[]> {
  const [warmUps, rounds, eachMs] = quick ? [1, 2, 20] : [2, 7, 300]
  const spire = await findSpireServer()
  if (spire === undefined) progress(withoutSpire)
  progress('building the Go program')
  const go = await openGoFloor()
  const floors: Floors = { node: [], go: [] }
  const sections: Section[] = []
  for (const one of stores()) {
    const { name } = one
    progress(`${name}: starting ${spire === undefined ? 'a server' : `servers, SPIRE ${spire} among them`}`)
    await using store = await one.open(spire !== undefined)
    const turns = new Turns(store, quick ? 0.01 : 1)
    for (let round = -warmUps; round < rounds; round++) {
      progress(`${name}: ${round < 0 ? `warm-up ${round + warmUps + 1} of ${warmUps}` : `round ${round + 1} of ${rounds}`}`)
      await turns.play(round)
      if (round < 0) continue
      floors.node.push(measureCrypto(eachMs))
      if (go !== undefined) floors.go.push(await go.measure(eachMs))
    }
    sections.push(...turns.sections(name))
  }
  const about = spire === undefined
    ? withoutSpire
    : `SPIRE ${spire} in its default configuration, rate limits off on both sides. Ratios are round by round: median (min–max).`
  return [
    ...sections.map((section, index) => index > 0 ? section : { ...section, notes: [about] }),
    { title: 'Floors in the same run', rows: floorRows(floors), notes: go === undefined ? ['Go is not on PATH: no floor of Go.'] : [] }
  ]
}

function floorRows ({ node, go }: Floors): Row[] {
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
