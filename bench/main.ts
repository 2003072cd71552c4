import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { currentLoad, describeConditions } from './measure/conditions.ts'
import { goVersion } from './measure/go-version.ts'
import { runAuthz } from './authz/authz.ts'
import { runEntries } from './entries/entries.ts'
import { runFederation } from './federation/federation.ts'
import { runMesh } from './mesh/mesh.ts'
import { recordRun } from './report/record.ts'
import { formatSection } from './report/table.ts'
import { runPropagate } from './propagate/propagate.ts'
import { runScale } from './scale/scale.ts'
import { runSds } from './sds/sds.ts'
import { runSign } from './sign/sign.ts'
import { runStampede } from './stampede/stampede.ts'
import type { Section, Suite } from './suite.ts'

const usage = `usage: npm run bench -- [SUITE …] [--quick] [--record] [--profile FOLDER]; suites:

  sign      X509-SVIDs, JWT-SVIDs and attestations: CPU each and rate, beside SPIRE (SPIRE_SERVER_BIN, SPIRE_BUILD=1); also called issue
  entries   entries created and read at 1,000, 10,000 and 100,000 stored, on SQLite and, if there is one, PostgreSQL
  sds       1,000 SDS and 1,000 Workload API streams on one agent: time, CPU and memory to open and to update them all
  propagate entry created, changed, removed → open workload stream and Envoy, with 1, 100 and 1,000 agents on 2 replicas
  stampede  5,000 agents that return to one replica at once after an outage: time until served, memory, what was tried again
  scale     1,000,000 entries and 10,000 agents on one replica: memory, load, and what a change costs that touches one or all
  mesh      plaintext, the node's Envoy and sidecars: latency, requests/s, first connections, memory of 200 workloads; needs root
  authz     checks by ext_authz at 20, 1,000 and 10,000 rules: CPU, checks/s, latency, memory; beside OPA's plugin (OPA_ENVOY_BIN)
            also with what was decided written down or reported, and through an Envoy to a workload, ruled by RBAC or by who is asked
  federation 100 partners: CPU per fetch beside SPIRE, fetches/hour, memory; a partner's rotation → Envoys
  all       one after the other (the default)

  --quick           small sizes and two rounds: shows that the programs work, measures nothing
  --record          puts the result into bench/RESULTS.md
  --profile FOLDER  server and agent write CPU profiles there (for Chrome's DevTools); makes everything slower
`

const suites: Readonly<Record<string, Suite>> = {
  sign: runSign, issue: runSign, entries: runEntries, sds: runSds, propagate: runPropagate, stampede: runStampede, scale: runScale,
  mesh: runMesh, authz: runAuthz, federation: runFederation
}

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    quick: { type: 'boolean', default: false },
    record: { type: 'boolean', default: false },
    profile: { type: 'string' },
    help: { type: 'boolean', short: 'h', default: false }
  }
})
const wanted = positionals.length === 0 || positionals.includes('all') ? Object.keys(suites).filter(name => name !== 'issue') : positionals
const unknown = wanted.find(name => !Object.hasOwn(suites, name))
if (values.help) {
  process.stdout.write(usage)
} else if (unknown !== undefined) {
  process.stderr.write(`no bench is called ${JSON.stringify(unknown)}\n\n${usage}`)
  process.exitCode = 2
} else {
  // As bin/assay starts it: type-stripped code comes from the cache.
  process.env['NODE_COMPILE_CACHE'] ??= join(import.meta.dirname, '../node_modules/.cache/assay/compile')
  if (values.profile !== undefined) process.env['NODE_OPTIONS'] = `--cpu-prof --cpu-prof-dir=${values.profile}`
  for (const name of wanted) await runSuite(name, suites[name] as Suite)
}

async function runSuite (name: string, suite: Suite): Promise<void> {
  const load = currentLoad()
  process.stderr.write(`${name} (load average ${load.toFixed(2)})\n`)
  const measured = await suite({ quick: values.quick, progress: text => process.stderr.write(`  ${text}\n`) })
  const sections = values.quick ? measured.map(withoutComparison) : measured
  const conditions = `Conditions: ${describeConditions(load, goVersion())}${values.quick ? '; --quick: not a measurement' : ''}.`
  const text = [conditions, '', ...sections.map(formatSection)].join('\n')
  process.stdout.write(`\n${text}\n`)
  if (values.record) recordRun(name === 'issue' ? 'sign' : name, text)
}

/** Small sizes say nothing about SPIRE's figures of elsewhere or our budgets. */
function withoutComparison (section: Section): Section {
  return { ...section, rows: section.rows.map(({ what, unit, values, peer }) => ({ what, unit, values, peer })), notes: [] }
}
