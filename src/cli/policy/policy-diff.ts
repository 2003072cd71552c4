import { readEvents } from '../../authz/decision-log/read-events.ts'
import { compareRecorded, type FlipReport } from '../../authz/flips/compare-recorded.ts'
import { readSignoff, unsigned } from '../../authz/flips/signoff.ts'
import { defineCommand } from '../command.ts'
import { pathFlag } from '../flag.ts'
import { formatJson } from '../json-output.ts'
import { usage } from '../parse-flags.ts'
import { counted, formatTable } from '../pretty.ts'
import { readInputText } from '../read-input.ts'
import { outputFlag } from '../socket-path.ts'
import { entriesFlag, loadDecidingSet } from './load-policies.ts'

const shownFlips = 200

export const policyDiff = defineCommand({
  flags: {
    against: pathFlag('a decision log of JSON lines; read as gzip when its name ends with .gz'),
    entries: entriesFlag,
    signoff: pathFlag('flips that were reviewed: what these cover does not count'),
    output: outputFlag
  },
  argument: { name: 'OLD NEW', least: 2, most: 2 },
  details: 'Decides recorded requests again by two policy sets, files or folders, and lists each source, destination and operation\n' +
    'whose answer changes. Exit code 0: no answer changes, or all that change are signed off; 5: some change.',
  examples: [
    'assay policy diff -against recorded.log deployed/ candidate/',
    'assay policy diff -against recorded.log.gz deployed/ candidate/ -signoff reviewed.yaml -output json'
  ],
  async run ({ flags, arguments: [oldPath = '', newPath = ''], terminal }) {
    if (flags.against === undefined) throw usage('-against is missing: name a decision log')
    const [before, after] = [await loadDecidingSet([oldPath], flags.entries, terminal),
      await loadDecidingSet([newPath], flags.entries, terminal)]
    const signoffs = flags.signoff === undefined ? undefined
      : readSignoff({ name: flags.signoff, text: await readInputText(flags.signoff, terminal) })
    const report = await compareRecorded(readEvents(flags.against), before, after)
    const left = signoffs === undefined ? undefined : unsigned(report, signoffs)
    if (flags.output === 'json') terminal.out(`${formatJson({ ...report, ...left === undefined ? {} : { unsigned: left } })}\n`)
    else terminal.out(formatReport(report, left))
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
