// Writes docs/errors.md, docs/conformance.md and docs/schema/policy.json; with --check compares instead and exits 1, naming the stale file.
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { z } from 'zod'
import { bundleDocument, policyDocument, scopeDocument, settingsDocument } from '../src/authz/policy/policy-schema.ts'
import { errorCatalogue } from '../src/spiffe/errors.ts'

interface Requirement {
  readonly id: string
  readonly level: string
  readonly section: string
  readonly text: string
  /** Why nothing proves it, if there is a better reason than that it has not been done. */
  readonly reason: string
}
/** Where a requirement is proved: file → the title or message that names it first. */
type Proofs = ReadonlyMap<string, string>

const root = join(import.meta.dirname, '..')
const idPattern = /\b(?:ID|X509|JWT|WIT|TDB|FED|WLE|WLAPI|BRE|BRK|AMB|TS)-\d\d\b/g
const sectionNames: Readonly<Record<string, string>> = {
  ID: 'SPIFFE-ID', X509: 'X509-SVID', JWT: 'JWT-SVID', WIT: 'WIT-SVID (incubating)', TDB: 'Trust Domain and Bundle', FED: 'Federation',
  WLE: 'Workload Endpoint', WLAPI: 'Workload API', BRE: 'Broker Endpoint (incubating)', BRK: 'Broker API (incubating)',
  AMB: 'Readings where the standards are silent', TS: 'Traps of the language'
}

const stale = Object.entries({
  'docs/errors.md': formatErrors(), 'docs/conformance.md': formatConformance(), 'docs/schema/policy.json': formatPolicySchema()
})
  .filter(([path, text]) => !holds(path, text))
if (process.argv.includes('--check')) {
  for (const [path] of stale) console.error(`${path} is stale: run npm run generate`)
  process.exitCode = stale.length === 0 ? 0 : 1
} else {
  for (const [path, text] of stale) writeFileSync(join(root, path), text)
}

/** For editors: what a document must look like, without the rules that only the parser can hold it against. */
function formatPolicySchema (): string {
  const schemaOf = (schema: z.ZodType) => z.toJSONSchema(schema, { io: 'input', unrepresentable: 'any' })
  const { $schema } = schemaOf(settingsDocument)
  const documents = [policyDocument, scopeDocument, bundleDocument, settingsDocument]
    .map(schema => ({ ...schemaOf(schema), $schema: undefined }))
  return `${JSON.stringify({ $schema, title: 'Policies of Assay', oneOf: documents }, undefined, 2)}\n`
}

function formatErrors (): string {
  const rows = Object.entries(errorCatalogue)
    .map(([code, { status, retry, next }]) => `| \`${code}\` | ${status} | ${retry ? 'yes' : 'no'} | ${escapeCell(next)} |`)
  return [
    '# Errors', '', generatedFrom('`src/spiffe/errors.ts`'), '',
    'Every refusal carries one of these codes: in logs and `--output json` as `code`, over gRPC as `google.rpc.ErrorInfo` with',
    'domain `assay` (of the Broker API: as `metadata.code` beside the standard\'s own reason). *Retry* says whether the same call can',
    'succeed later without anybody changing anything.', '',
    '| code | gRPC status | retry | what to do |', '|---|---|---|---|', ...rows, ''
  ].join('\n')
}

function formatConformance (): string {
  const requirements = readRequirements()
  const proofs = findProofs()
  const unknown = [...proofs.keys()].filter(id => !requirements.some(row => row.id === id))
  if (unknown.length > 0) throw new Error(`tests name requirements that do not exist: ${unknown.toSorted().join(', ')}`)
  const settled = requirements.filter(({ id, reason }) => reason !== '' && proofs.has(id)).map(({ id }) => id)
  if (settled.length > 0) throw new Error(`proved and yet with a reason why not: ${settled.join(', ')}`)
  const prefixes = [...new Set(requirements.map(({ id }) => prefixOf(id)))]
  const sections = prefixes.map(prefix => ({ prefix, rows: requirements.filter(({ id }) => prefixOf(id) === prefix) }))
  const counts = (rows: readonly Requirement[]) =>
    `${rows.filter(({ id }) => proofs.has(id)).length} | ${rows.filter(isNotApplicable).length} | ${rows.length}`
  return [
    '# Conformance', '', generatedFrom('`test/conformance/requirements.tsv` and the titles and messages of the tests'), '',
    'A row counts as proved when a test names it. A row that nothing here could obey or break is not applicable. A level with a star',
    'follows from the text without a keyword.', '',
    '| section | proved | not applicable | rows |', '|---|---:|---:|---:|',
    ...sections.map(({ prefix, rows }) => `| [${prefix} ${sectionNames[prefix]}](#${prefix.toLowerCase()}) | ${counts(rows)} |`),
    `| all | ${counts(requirements)} |`, '',
    ...sections.flatMap(({ prefix, rows }) => [
      `<a id="${prefix.toLowerCase()}"></a>`, '', `## ${prefix}: ${sectionNames[prefix]}`, '',
      '| row | requirement | level | proved by |', '|---|---|---|---|',
      ...rows.map(row => formatRow(row, proofs.get(row.id))), ''
    ])
  ].join('\n')
}

function formatRow ({ id, level, section, text, reason }: Requirement, proofs: Proofs | undefined): string {
  const links = [...proofs ?? []].map(([path, title]) => `[${path}](../${path})${title === '' ? '' : `: ${escapeCell(title)}`}`)
  const source = section === '' ? '' : ` (§ ${section})`
  return `| ${id} | ${escapeCell(text + source)} | ${level} | ${links.join('<br>') || escapeCell(reason) || 'not yet'} |`
}

function readRequirements (): Requirement[] {
  const [, ...lines] = readFileSync(join(root, 'test/conformance/requirements.tsv'), 'utf8').trimEnd().split('\n')
  return lines.map(line => {
    const [id = '', level = '', section = '', text = '', reason = ''] = line.split('\t')
    return { id, level, section, text, reason }
  })
}

function isNotApplicable ({ reason }: Requirement): boolean {
  return reason.startsWith('not applicable: ')
}

/** Requirement → proofs, from the string literals of test files: a mention in a comment proves nothing. */
function findProofs (): Map<string, Map<string, string>> {
  const proofs = new Map<string, Map<string, string>>()
  for (const path of listTests()) {
    for (const literal of literalsOf(readFileSync(join(root, path), 'utf8'))) {
      for (const [id] of literal.matchAll(idPattern)) {
        const files = proofs.get(id) ?? new Map<string, string>()
        if ((files.get(path) ?? '') === '') files.set(path, titleOf(literal))
        proofs.set(id, files)
      }
    }
  }
  return proofs
}

/** What asserts: tests, long proofs, the contracts that several of them run, checks in Go. Fakes and helpers prove nothing. */
function listTests (): string[] {
  return readdirSync(join(root, 'test'), { recursive: true, encoding: 'utf8' })
    .map(path => `test/${path.replaceAll('\\', '/')}`)
    .filter(path => /(?:\.test\.ts|\.soak\.ts|contract\.ts|\.go)$/.test(path) && !path.includes('/node_modules/'))
    .toSorted()
}

/** One line each: no requirement's number is broken over two lines. */
function literalsOf (source: string): string[] {
  const lines = source.split('\n').filter(line => !/^\s*(?:\/\/|\/?\*)/.test(line))
  const literal = /'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|`(?:[^`\\]|\\.)*`/g
  return lines.flatMap(line => line.match(literal) ?? []).map(text => text.slice(1, -1))
}

/** The literal as a title without its number; empty if nothing else is in it, if it has several or if it is a template. */
function titleOf (literal: string): string {
  if ((literal.match(idPattern) ?? []).length > 1) return ''
  const title = literal.replaceAll(idPattern, '').replaceAll(/^[\s,;:–-]+|[\s,;:–-]+$/g, '').replaceAll(/\\(.)/g, '$1')
  return literal.includes('${') || title.length > 120 || !/[a-z]{2}/.test(title) ? '' : title
}

function generatedFrom (source: string): string {
  return `<!-- Generated by \`npm run generate\` from ${source}. -->`
}

/** Code spans keep their `<`: there it stands for itself. */
function escapeCell (text: string): string {
  return text.replaceAll('|', '\\|').split('`').map((part, index) => index % 2 === 0 ? part.replaceAll('<', '&lt;') : part).join('`')
}

function prefixOf (id: string): string {
  return id.slice(0, id.indexOf('-'))
}

function holds (path: string, text: string): boolean {
  try {
    return readFileSync(join(root, path), 'utf8') === text
  } catch {
    return false
  }
}
