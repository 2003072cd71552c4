import { withCallers } from '../measure/callers.ts'
import { cpuMsOf, residentMibOf } from '../measure/process-usage.ts'
import { percentile } from '../measure/statistics.ts'
import type { Row, Section, SuiteOptions } from '../suite.ts'
import { type BenchCase, makeCase } from './cases.ts'
import { CheckClient, frameOf } from './check-client.ts'
import { measureInProcess } from './in-process.ts'
import { type Peer, startAssay, startOpa, startReceiver } from './peers.ts'
import { measureThroughEnvoy } from './through-envoy.ts'

/** The plugin's program for Envoy, on the OPA to measure with; without it only Assay is measured. */
const opaVariable = 'OPA_ENVOY_BIN'

/** Checks by ext_authz: rules of three sizes, spread over workloads or all on one, beside OPA's plugin in the same run. */
export async function runAuthz ({ quick, progress }: SuiteOptions): Promise<readonly Section[]> {
  const opa = process.env[opaVariable]
  const sizes = quick ? [20] : [20, 1_000, 10_000]
  const sections: Section[] = []
  const cases = sizes.flatMap(size => size === 20 ? [makeCase(size, 'spread')] : [makeCase(size, 'spread'), makeCase(size, 'single')])
  {
    // Each start but the first after an installation finds compiled code.
    await using _ = await startAssay(cases[0] as BenchCase, 'unix')
  }
  for (const one of cases) {
    const starts = [
      () => startAssay(one, 'unix'), () => startAssay(one, 'tcp'), ...isLogged(one) ? [() => startAssay(one, 'unix', true)] : [],
      ...opa === undefined ? [] : [() => startOpa(one, opa)]
    ]
    const rows = measureInProcess(one, quick)
    for (const start of starts) {
      await using peer = await start()
      progress(`${one.name}: ${peer.name}`)
      rows.push(...await measure(peer, one, quick))
    }
    const absent = opa === undefined ? [`OPA was not measured: ${opaVariable} names no program.`] : []
    sections.push({ title: `ext_authz, ${one.name}`, rows, notes: [
      ...absent,
      'The client shares the cores. 8 at a time on 2 connections, one at a time on one; each answer is compared with a walk over all rules.'
    ] })
    if (one.rules.length === 10_000) continue
    await using scope = new AsyncDisposableStack()
    const peers: Peer[] = []
    for (const startPeer of [() => startAssay(one, 'unix'), ...opa === undefined ? [] : [() => startOpa(one, opa)]]) {
      peers.push(scope.use(await startPeer()))
    }
    progress(`${one.name}: through Envoy`)
    const receiver = isLogged(one) ? scope.use(await startReceiver(one)) : undefined
    sections.push({ title: `Through Envoy, ${one.name}`, rows: await measureThroughEnvoy(one, { peers, receiver, quick }), notes: [
      ...absent,
      'One Envoy with one worker, another one as the workload; the ways take turns; all share the cores with the client.',
      'Requests that are let in, so that each way does the same besides; wrong answers are of all requests.'
    ] })
  }
  return sections
}

/** Where what decisions cost that are written down is measured too. */
function isLogged ({ name, rules }: BenchCase): boolean { return name.endsWith('spread') && rules.length < 10_000 }

async function measure (peer: Peer, one: BenchCase, quick: boolean): Promise<Row[]> {
  const frames = one.requests.map(frameOf)
  let wrong = 0
  async function run (connections: number, callers: number, count: number) {
    using client = new CheckClient(peer.where, connections)
    const times: number[] = []
    const [begin, cpu] = [performance.now(), cpuMsOf(peer.pid)]
    await withCallers(callers, count, async i => {
      const at = i % frames.length
      const asked = performance.now()
      const allowed = await client.check(frames[at] as Buffer)
      times.push(performance.now() - asked)
      if (allowed !== one.requests[at]?.allowed) wrong++
    })
    return { times, seconds: (performance.now() - begin) / 1_000, cpuUs: (cpuMsOf(peer.pid) - cpu) * 1_000 / count }
  }
  // As many as it does in some seconds: a slow peer few, a fast one once it is warm.
  await run(2, 8, 16)
  let count = 16
  for (let again = 0; again < (quick ? 1 : 2); again++) {
    const { seconds } = await run(2, 8, count)
    count = Math.max(16, Math.min(quick ? 200 : 20_000, Math.round(count / seconds * 4)))
  }
  const rounds = []
  for (let i = 0; i < (quick ? 1 : 3); i++) rounds.push(await run(2, 8, count))
  const alone = await run(1, 1, Math.ceil(count / 5))
  const row = (what: string, unit: string, values: readonly number[]): Row => ({ what: `${peer.name}: ${what}`, unit, values })
  return [
    row('CPU per check', 'us', rounds.map(({ cpuUs }) => cpuUs)),
    row('checks, 8 at a time', '/s', rounds.map(({ seconds }) => count / seconds)),
    row('8 at a time, p50', 'ms', rounds.map(({ times }) => percentile(times, 50))),
    row('8 at a time, p99', 'ms', rounds.map(({ times }) => percentile(times, 99))),
    row('one at a time, p50', 'ms', [percentile(alone.times, 50)]),
    row('one at a time, p99', 'ms', [percentile(alone.times, 99)]),
    row('memory', 'MiB', [residentMibOf(peer.pid)]),
    row('start to first right answer', 'ms', [peer.startMs]),
    row('wrong answers', 'of all', [wrong])
  ]
}
