import t from 'tap'
import { hash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { builtInPolicy } from '../../../src/authz/apipolicy/evaluator.ts'
import { openSpirePolicy } from '../../../src/authz/apipolicy/open-policy.ts'
import { isStandardRego, normalizeRego, standardRegoDigests } from '../../../src/authz/apipolicy/standard-rego.ts'
import { serverApiPolicy } from '../../../src/authz/server-api-policy.ts'
import { policyData, rego, standardDigests } from './policy-files.ts'

const open = (data: string | undefined, text = rego) => openSpirePolicy({
  rego: { name: 'p.rego', text }, data: data === undefined ? undefined : { name: 'p.json', text: data }, standardDigests
})
const entry = (method: string) => `/spire.api.server.entry.v1.Entry/${method}`
const ask = (fullMethod: string) => ({ caller: '', callerFilePath: '', fullMethod, req: null })
const rows = (...apis: object[]) => JSON.stringify({ apis })

void t.test('the standard policy\'s data decides, method by method', async t => {
  const { evaluator, warnings } = open(policyData())
  t.same(warnings, [])
  for (const method of serverApiPolicy.keys()) {
    t.same(await evaluator.evaluate(ask(method)), await builtInPolicy.evaluate(ask(method)), `${method}: usual data, usual callers`)
  }
  const narrow = open(policyData({ [entry('BatchCreateEntry')]: ['local'] })).evaluator
  t.match(await narrow.evaluate(ask(entry('BatchCreateEntry'))), { allow: false, allowIfLocal: true, allowIfAdmin: false })
  const get = entry('GetEntry')
  const few = open(rows({ full_method: get, allow_admin: true }, { full_method: get, allow_local: true })).evaluator
  t.match(await few.evaluate(ask(get)), { allowIfAdmin: true, allowIfLocal: true, allowIfAgent: false }, 'rows of a method add up')
  t.match(await few.evaluate(ask(entry('ListEntries'))), { allow: false, allowIfAdmin: false, allowIfLocal: false }, 'no row, nobody')
  t.match(await few.evaluate(ask('/assay.server.v1.Cluster/GetStatus')), { allowIfAdmin: true }, 'what SPIRE does not have stays as it is')
})

void t.test('a policy that opens the API is refused, with what opens it', async t => {
  const open1 = (method: string, right: string) => () => open(rows({ full_method: method, [right]: true }))
  for (const method of [...serverApiPolicy].filter(([, callers]) => !callers.includes('anyone')).map(([method]) => method)) {
    if (/GetFederatedBundle$|Health\/Check$/.test(method)) t.doesNotThrow(open1(method, 'allow_any'), method)
    else t.throws(open1(method, 'allow_any'), { code: 'policy_too_open', message: new RegExp(`allow_any for ${method}`) }, method)
  }
  for (const right of ['allow_agent', 'allow_downstream']) {
    t.throws(open1(entry('BatchCreateEntry'), right), { code: 'policy_too_open' }, right)
    t.throws(open1('/spire.api.server.svid.v1.SVID/MintX509SVID', right), { code: 'policy_too_open' }, right)
    t.match(open(rows({ full_method: entry('ListEntries'), [right]: true })).warnings[0], /lets each of them read/)
  }
  t.match(open(rows()).warnings, [/AttestAgent: agents cannot work/])
  t.doesNotThrow(open1('/spire.api.server.trustdomain.v1.TrustDomain/Other', 'allow_any'), 'what is not offered here is nobody\'s')
  for (const line of [
    'default allow = true', 'default allow := true', '  default   allow=true # why not', 'allow = true', 'allow := true',
    'allow if { true }', 'allow { true }', 'allow = true if { true }', 'default allow_if_agent = true', 'result = { "allow": true,'
  ]) t.throws(() => open(policyData(), `package spire\n${line}\n`), { code: 'policy_too_open', message: /^p\.rego: / }, line)
})

void t.test('Rego that is not the standard policy is refused, with the way out', async t => {
  const others = [
    `${rego}\nallow if input.caller == "x"\n`, rego.replace('allow_admin', 'allow_local'), '', 'package spire\nallow if {\n  input.x\n}',
    rego.replace('r.x', '#\nr.x;')
  ]
  for (const text of others) {
    t.throws(() => open(policyData(), text), { code: 'policy_unsupported', message: /server\.roles/ })
  }
  const unknown = { rego: { name: 'p.rego', text: rego }, data: undefined }
  t.throws(() => openSpirePolicy(unknown), { code: 'policy_unsupported' }, 'nor is this test\'s own text')
  t.throws(() => open(undefined), { code: 'policy_malformed', message: /admits nobody/ })
  const changed = rego.replaceAll('\n', '\r\n').replace('package', '# mine\n\n  package').replace(' := ', '  :=\t')
  t.ok(isStandardRego(changed, standardDigests), 'comments, blank lines, line ends and spaces do not matter')
  t.not(normalizeRego('a\nb'), normalizeRego('a b'), 'lines do')
})

void t.test('the data file is read strictly', async t => {
  const refused: Record<string, readonly [string, RegExp]> = {
    'a truthy text': [rows({ full_method: '/a/b', allow_admin: 'no' }), /apis\.0\.allow_admin: must be a boolean/],
    'a misspelt right': [rows({ full_method: '/a/b', allow_admins: true }), /unknown key; did you mean allow_admin\?/],
    'no method': [rows({ allow_any: true }), /full_method: is required/],
    'a pattern': [rows({ full_method: '/spire.api.server.entry.v1.Entry/*' }), /must be a method/],
    'a name twice': ['{"apis": [], "apis": []}', /p\.json/],
    'more beside it': ['{"apis": [], "admins": []}', /unknown key/],
    'no JSON': ['apis: []', /p\.json/],
    'a list': ['[]', /not an object/],
    'too much': [`{"apis": [${' '.repeat(1_048_577)}]}`, /too long/]
  }
  for (const [name, [data, message]] of Object.entries(refused)) t.throws(() => open(data), { code: 'policy_malformed', message }, name)
})

const source = process.env['ASSAY_SPIRE_SOURCE']
void t.test('SPIRE\'s own files', { skip: source === undefined ? 'ASSAY_SPIRE_SOURCE names no checkout of SPIRE' : false }, async t => {
  const read = (name: string) => readFileSync(join(source ?? '', 'pkg/server/authpolicy', name), 'utf8')
  const file = (name: string) => ({ name, text: read(name) })
  const files = { rego: file('policy.rego'), data: file('policy_data.json') }
  t.ok(standardRegoDigests.has(hash('sha256', normalizeRego(files.rego.text))), 'the text is known')
  const { evaluator, warnings } = openSpirePolicy(files)
  t.same(warnings, [])
  for (const method of serverApiPolicy.keys()) {
    t.same(await evaluator.evaluate(ask(method)), await builtInPolicy.evaluate(ask(method)), method)
  }
})
