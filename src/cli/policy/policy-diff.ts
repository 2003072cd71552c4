import { readEvents } from '../../authz/decision-log/read-events.ts'
import { compareDocuments } from '../../authz/flips/compare-documents.ts'
import { compareRecorded, type FlipReport } from '../../authz/flips/compare-recorded.ts'
import { readSignoff, unsigned } from '../../authz/flips/signoff.ts'
import { defineCommand } from '../command.ts'
import { pathFlag } from '../flag.ts'
import { formatJson } from '../json-output.ts'
import { usage } from '../parse-flags.ts'
import { counted, formatTable } from '../pretty.ts'
import { readInputText } from '../read-input.ts'
import { outputFlag, serverFlags } from '../socket-path.ts'
import { formatDocuments } from './format-documents.ts'
import { loadActive } from './load-active.ts'
import { decidingSetOf, entriesFlag, type LoadedPolicies, loadPolicies } from './load-policies.ts'

const shownFlips = 200

export const policyDiff = defineCommand({
  flags: {
    against: pathFlag('a decision log of JSON lines; read as gzip when its name ends with .gz'),
    entries: entriesFlag,
    signoff: pathFlag('with -against: flips that were reviewed; what these cover does not count'),
    ...serverFlags,
    output: outputFlag
  },
  argument: { name: '[OLD] NEW', least: 1, most: 2 },
  details: 'Compares two policy sets, files or folders, as they are written: documents, rules and values. Without OLD it is the set\n' +
    'that is active on the server. With -against it also decides recorded requests again by both, and lists each source,\n' +
    'destination and operation whose answer changes. Exit code 0: nothing differs, or with -against no answer changes, or all\n' +
    'that change are signed off; 5: something does.',
  examples: [
    'assay policy diff candidate/',
    'assay policy diff -against recorded.log deployed/ candidate/',
    'assay policy diff -against recorded.log.gz deployed/ candidate/ -signoff reviewed.yaml -output json'
  ],
  async run (call) {
    const { flags: { against, signoff, output, entries }, arguments: [oldPath = '', newPath], terminal } = call
    if (against === undefined && signoff !== undefined) throw usage('-signoff is for -against: name a decision log')
    const active = newPath === undefined ? await loadActive(call) : undefined
    const before = active ?? await loadPolicies([oldPath], entries, terminal)
    const after = await loadPolicies([newPath ?? oldPath], entries, terminal)
    const documents = compareDocuments(before.texts, after.texts)
    if (against === undefined) {
      const { revision } = before.set
      if (output === 'json') terminal.out(`${formatJson({ before: revision, after: after.set.revision, documents })}\n`)
      else terminal.out(formatDocuments(documents))
      return documents.length === 0 ? 0 : 5
    }
    const signoffs = signoff === undefined ? undefined : readSignoff({ name: signoff, text: await readInputText(signoff, terminal) })
    const deciding = (loaded: LoadedPolicies) => decidingSetOf({ ...loaded, entries: loaded.entries ?? active?.entries })
    const report = await compareRecorded(readEvents(against), deciding(before), deciding(after))
    const left = signoffs === undefined ? undefined : unsigned(report, signoffs)
    if (output === 'json') terminal.out(`${formatJson({ ...report, documents, ...left === undefined ? {} : { unsigned: left } })}\n`)
    else terminal.out(`${formatReport(report, left)}\n${formatDocuments(documents)}`)
    if (report.flipped === 0 && left === undefined) return 0
    return left !== undefined && (left.flips.length === 0 && (left.reasons.length === 0 || isQuiet(report))) ? 0 : 5
  }
})

/** Nothing to sign: nothing changes, and nothing was left uncompared. */
function isQuiet ({ flipped, masked, unreadable }: FlipReport): boolean { return flipped + masked + unreadable === 0 }

function formatReport (report: FlipReport, left: ReturnType<typeof unsigned> | undefined): string {
  const { flips, compared, flipped, untold, masked, unreadable, differsFromLog } = report
  const listed = left?.flips ?? flips
  const rows = listed.slice(0, shownFlips).map(({ source = 'none', destination = 'none', operation, before, after, ruleBefore, ruleAfter,
    count,
    examples }) => [source, destination, operation, `${before} (${ruleBefore})`, `${after} (${ruleAfter})`, `${count}`, examples[0] ?? ''])
  return [
    `Old ${report.before}\nNew ${report.after}\n`,
    `${counted(compared, 'request', 'requests')} compared, ${flipped} of them answered otherwise: `,
    counted(flips.length, 'flip', 'flips'),
    left === undefined ? '\n' : `, ${left.flips.length} of them not signed off\n`,
    ...rows.length === 0 ? [] : ['\n', formatTable(['SOURCE', 'DESTINATION', 'OPERATION', 'OLD', 'NEW', 'REQUESTS', 'EXAMPLE'], rows)],
    ...listed.length > shownFlips ? [`and ${listed.length - shownFlips} more; -output json has all\n`] : [],
    ...note(untold, 'requests flip beyond what the list has room for'),
    ...note(masked, 'requests could not be decided again: what a rule asks about was masked'),
    ...note(unreadable, 'lines are no decision'),
    ...note(differsFromLog, 'requests are answered otherwise by the old policies than they were: these did not decide then'),
    ...(left?.reasons ?? []).map(reason => `Not signed: ${reason}\n`)
  ].join('')
}

function note (count: number, what: string): string[] { return count === 0 ? [] : [`Note: ${count} ${what}\n`] }
