import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { promisify } from 'node:util'
import t from 'tap'
import { findSpireServer, withoutSpire } from '../../bench/measure/spire-server.ts'
import { formatSection, verdictOf } from '../../bench/report/table.ts'
import { noNamespaces } from '../fakes/pods.ts'
import { postgresMissing } from '../fakes/postgres.ts'
import { withoutSpireServer } from '../fakes/spire.ts'
import { spireServer } from '../fakes/spire-programs.ts'
import { replaceRun } from '../../bench/report/record.ts'

const main = join(import.meta.dirname, '../../bench/main.ts')

async function bench (...words: string[]): Promise<{ code: number, stdout: string, stderr: string }> {
  try {
    const { stdout, stderr } = await promisify(execFile)(process.execPath, [main, ...words], { timeout: 600_000, maxBuffer: 1 << 24 })
    return { code: 0, stdout, stderr }
  } catch (error) {
    const { code, stdout, stderr } = error as { code: number, stdout: string, stderr: string }
    return { code, stdout, stderr }
  }
}

await t.test('each bench still runs', { timeout: 1_700_000 }, async t => {
  const rows = {
    issue: [
      '### Server CPU per operation, SQLite', 'X509-SVID, 50 per call, 8 callers', 'JWT-SVID, 1 caller', 'attestation by join token',
      ...postgresMissing() === false ? ['### CPU of the database per operation, PostgreSQL'] : [],
      ...withoutSpireServer === false ? ['SPIRE, same run', 'Assay / SPIRE'] : [], 'node:crypto, P-256 verify'
    ],
    entries: ['### Entries on SQLite', 'created at 600', 'ListEntries, all pages of 500, at 600', 'poll of an agent at 600: server CPU'],
    scale: ['load from the datastore', 'heap per entry', 'heap per stream', 'an entry below the alias of 100 agents changed: CPU'],
    stampede: ['20 agents return', 'time to served, max', 'server RSS, max'],
    authz: ['Assay, unix: CPU per check', 'Assay, tcp: wrong answers', 'in process: CPU to decide'],
    federation: [
      '### 4 partners asked, https_web', '### 4 partners asked, https_spiffe', 'bundle new: server CPU per fetch', 'floor: HTTPS, JSON',
      '### 4 partners followed', 'fetches per hour', 'asked → last Envoy, p99', 'all partners rotate at once → last Envoy'
    ],
    sds: ['entry changed: first to last SDS stream', 'CA appended to the bundle: to all streams', 'agent RSS after the changes'],
    ...noNamespaces() === false ? { mesh: ['node Envoy, HTTP: CPU of the Envoys', 'first, p99', '200 sidecars, extrapolated'] } : {},
    ...postgresMissing() === false ? { propagate: ['### 1 agent on', 'changed → Envoy, p99', 'as a replica is killed → Envoy, max'] } : {}
  }
  for (const [name, expected] of Object.entries(rows)) {
    const { code, stdout, stderr } = await bench(name, '--quick')
    t.equal(code, 0, `${name} ends well: ${stderr.slice(-500)}`)
    for (const text of expected) t.ok(stdout.includes(text), `${name}: ${text}`)
    t.notMatch(stdout, /NaN|Infinity|undefined/, `${name}: every figure is a number`)
    t.match(stdout, /--quick: not a measurement/)
  }
})

await t.test('without SPIRE\'s program a run says how to get it', async t => {
  const absent = { ...spireServer, version: '0.0.0', buildVariable: 'NOBODY_SETS_THIS' }
  const before = process.env['SPIRE_SERVER_BIN']
  t.teardown(() => setVariable(before))
  setVariable(undefined)
  t.equal(await findSpireServer(absent), undefined)
  t.match(withoutSpire, /SPIRE_SERVER_BIN name the program spire-server/)
  setVariable(process.execPath)
  t.equal(await findSpireServer(absent), process.version)
  setVariable('/nowhere/spire-server')
  await t.rejects(findSpireServer(absent), { message: /SPIRE_SERVER_BIN: \/nowhere\/spire-server does not tell its version/ })
})

function setVariable (value: string | undefined): void {
  if (value === undefined) delete process.env['SPIRE_SERVER_BIN']
  else process.env['SPIRE_SERVER_BIN'] = value
}

await t.test('usage', async t => {
  t.match(await bench('--help'), { code: 0, stdout: /usage: npm run bench/ })
  t.match(await bench('singing'), { code: 2, stderr: /no bench is called "singing"/ })
})

await t.test('a verdict follows the median', async t => {
  const row = { what: 'x', unit: 'ms', values: [1, 2, 9], budget: [2, 3] } as const
  t.equal(verdictOf(row), 'met')
  t.equal(verdictOf({ ...row, values: [1, 3, 9] }), 'nearly')
  t.equal(verdictOf({ ...row, values: [1, 4, 9] }), 'MISSED')
  t.equal(verdictOf({ ...row, budget: [2000, 2000], values: [1500], better: 'higher' }), 'MISSED')
  t.equal(verdictOf({ ...row, budget: [2000, 2000], values: [2500], better: 'higher' }), 'met')
  const plain = formatSection({ title: 'x', rows: [{ what: 'x', unit: 'ms', values: [1] }], notes: [] })
  t.notMatch(plain, /SPIRE/, 'empty columns are left out')
})

await t.test('a peer of the same run is compared round by round', async t => {
  const row = { what: 'x', unit: 'ms', values: [1, 3, 2], peer: [2, 3, 8] }
  const table = formatSection({ title: 'x', rows: [row], notes: [] })
  t.match(table, /\| x +\| 2 ms \(1–3\) +\| 3 ms \(2–8\) +\| 0\.5 \(0\.25–1\) +\|/)
  const idle = formatSection({ title: 'x', rows: [{ ...row, peer: [0, 0, 0] }], notes: [] })
  t.notMatch(idle, /Infinity|NaN/, 'a peer that needed less than a tick has no ratio')
})

await t.test('a recorded run takes the place of the one before, and nothing else', async t => {
  const once = replaceRun('# Results\n\nRead me.\n', 'sign', 'first')
  const twice = replaceRun(`${once}\nWhy: because.\n`, 'sign', 'second')
  t.match(twice, /Read me\.[^]*second[^]*Why: because\./)
  t.notMatch(twice, /first/)
})
