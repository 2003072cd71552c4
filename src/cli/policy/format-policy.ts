import type { PolicyChange, PolicyVersion } from '../../wire/generated/policy.ts'
import type { Concern } from '../convergence/await-convergence.ts'
import { counted, formatRows, formatTable, formatTime } from '../pretty.ts'
import type { StoredPolicies } from './policy-calls.ts'

/** Policies reach all agents that follow them. */
export function policyConcern ({ version }: PolicyChange): Concern {
  return { entryIds: [], policies: true, mustServe: { policyVersion: Number(version?.number ?? 0) } }
}

/** What became of a set, in one line. */
export function formatChange ({ version, unchanged }: PolicyChange, { dryRun = false } = {}): string {
  if (version === undefined) return ''
  const { number, parent } = version
  const over = parent === 0n ? '' : ` in place of version ${parent}`
  const changed = dryRun ? `Would become version ${number}${over}` : `Version ${number} is active${over}`
  const what = unchanged ? `Version ${number} is active already` : changed
  return `${what}: ${sizeOf(version)}, revision ${short(version.revision)}\n`
}

/** One line per version. */
export function formatVersions (versions: readonly PolicyVersion[]): string {
  return formatTable(['VERSION', 'APPLIED', 'BY', 'RULES', 'FILES', 'REPLACED', 'REVISION', 'COMMENT'], versions.map((version, index) => [
    `${version.number}${index === 0 ? ' *' : ''}`,
    formatTime(new Date(Number(version.appliedAt))),
    version.appliedBy,
    `${version.rules}`,
    `${version.documents}`,
    version.parent === 0n ? '-' : `${version.parent}`,
    short(version.revision),
    version.comment
  ]))
}

/** What is known of a version, then its documents. */
export function formatStored (stored: StoredPolicies): string {
  const { version } = stored
  if (version === undefined) return ''
  return `${formatRows([
    ['Version', `${version.number}`],
    ['Replaced', version.parent === 0n ? undefined : `${version.parent}`],
    ['Applied', formatTime(new Date(Number(version.appliedAt)))],
    ['By', version.appliedBy],
    ['Comment', version.comment === '' ? undefined : version.comment],
    ['Holds', sizeOf(version)],
    ['Revision', version.revision]
  ], 10)}\n${withoutArchives(formatDocuments(stored))}`
}

/** Nobody reads those. */
function withoutArchives (text: string): string {
  return text.replaceAll(/("?bundle"?: *)"?([\w+/]{100,}=*)"?/g, (_, key: string, archive: string) =>
    `${key}"${counted(Buffer.byteLength(archive, 'base64'), 'byte', 'bytes')}; --output yaml has them"`)
}

/** All documents as one YAML text, which can be applied again. */
export function formatDocuments ({ documents }: StoredPolicies): string {
  return documents.map(({ name, text }) => `---\n# ${JSON.stringify(name)}\n${yamlOf(text)}`).join('')
}

/** A JSON list has as many documents as members. */
function yamlOf (text: string): string {
  const list = /^\s*\[/.test(text) ? membersOf(text) : undefined
  const yaml = list === undefined ? text.replace(/^\uFEFF?---\r?\n/, '') : list.map(member => `${JSON.stringify(member)}\n`).join('---\n')
  return yaml.endsWith('\n') || yaml === '' ? yaml : `${yaml}\n`
}

function membersOf (text: string): readonly unknown[] | undefined {
  try {
    return JSON.parse(text) as unknown[]
  } catch {
    return undefined
  }
}

function sizeOf ({ rules, documents }: PolicyVersion): string {
  return `${counted(rules, 'rule', 'rules')} of ${counted(documents, 'file', 'files')}`
}

function short (revision: string): string { return revision.slice(0, 12) }
