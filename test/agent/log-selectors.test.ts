import t from 'tap'
import { loggableSelectors } from '../../src/agent/loggable-selectors.ts'
import { parseSelector } from '../../src/spiffe/selector.ts'
import { workloadService } from '../../src/wire/generated/workload.ts'
import { startTestAgent, securityHeader } from '../fakes/agent.ts'
import { capturedLog, type LogLine } from '../fakes/captured-log.ts'
import { eventually } from '../fakes/eventually.ts'
import { startTestServer } from '../fakes/server.ts'

/** At `debug` all that attestors found is told. */
const operational = ({ level }: LogLine) => level !== 'debug' && level !== 'trace'

t.test('of a workload\'s selectors only those are logged that log_selectors begins', async t => {
  const found = ['unix:uid:7', 'k8s:ns:shop', 'k8s:ns-owner:secret', 'k8s:sa:web', 'unix:path:/p'].map(parseSelector)
  const cases: ReadonlyArray<readonly [prefixes: string[], shown: string]> = [
    [[], ''],
    [['k8s:ns'], 'k8s:ns:shop'],
    [['unix', 'k8s:sa'], 'k8s:sa:web,unix:path:/p,unix:uid:7'],
    [['unix:uid:7'], 'unix:uid:7'],
    [['unix:uid:', 'uni', 'docker'], '']
  ]
  for (const [prefixes, shown] of cases) t.equal(loggableSelectors(found, prefixes), shown, prefixes.join())
})

void t.test('log_selectors: who gets nothing is told of by the selectors that may be logged', async t => {
  const { log, lines } = capturedLog()
  await using server = await startTestServer()
  await using agent = await startTestAgent(server, { log, config: { logSelectors: ['unix:uid'] } })
  const workload = agent.workload.client(workloadService)
  const told = () => lines.filter(({ msg }) => msg === 'no identity issued')
  const ask = () => workload.fetchJWTSVID({ audience: ['a'] }, securityHeader)
  await eventually('the agent to know its entries', () =>
    ask().then(() => false, ({ code }: { code?: string }) => code === 'no_identity_issued'))
  lines.length = 0
  const calls: ReadonlyArray<() => Promise<unknown>> = [
    () => workload.fetchX509SVID({}, securityHeader)[Symbol.asyncIterator]().next(),
    () => workload.fetchX509Bundles({}, securityHeader)[Symbol.asyncIterator]().next(),
    () => workload.fetchJWTBundles({}, securityHeader)[Symbol.asyncIterator]().next(),
    ask
  ]
  for (const call of calls) await t.rejects(call(), { code: 'no_identity_issued' })
  await eventually('each to be told', () => told().length === calls.length)
  for (const line of told()) {
    t.match(line, { level: 'error', registered: false, selectors: `unix:uid:${process.getuid?.()}`, caller: { pid: process.pid } })
  }
  t.notMatch(JSON.stringify(lines.filter(operational)), /unix:gid/, 'and by no others')

  const silent = capturedLog()
  await using other = await startTestAgent(server, { log: silent.log })
  const refused = () => silent.lines.some(({ code }) => code === 'no_identity_issued')
  await eventually('a call to be refused', async () => {
    await other.workload.client(workloadService).fetchJWTSVID({ audience: ['a'] }, securityHeader).catch(() => undefined)
    return refused()
  })
  t.notMatch(JSON.stringify(silent.lines.filter(operational)), /no identity issued|unix:uid/, 'without the key nobody is told of')
})
