import { requestJson } from '../../authz/decision-log/request-json.ts'
import { operationOf } from '../../authz/flips/operation.ts'
import { readPolicyTests, runPolicyTests, type TestFailure, type TestReport } from '../../authz/policy-test/run-policy-tests.ts'
import { systemClock } from '../../runtime/clock.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import { defineCommand } from '../command.ts'
import { instantFlag, switchFlag } from '../flag.ts'
import { formatJson } from '../json-output.ts'
import { usage } from '../parse-flags.ts'
import { counted, printable } from '../pretty.ts'
import { outputFlag, serverFlags } from '../socket-path.ts'
import { formatExplanation } from './format-explanation.ts'
import { loadActive } from './load-active.ts'
import { decidingSetOf, entriesFlag, loadPolicies } from './load-policies.ts'

export const policyTest = defineCommand({
  flags: {
    entries: entriesFlag,
    time: instantFlag('when requests without a time come; now if it is not given'),
    requireRules: switchFlag('fail, too, when a rule decides no request of any test'),
    active: switchFlag('decide by the policies that are active on the server, not by those in the files'),
    ...serverFlags,
    output: outputFlag
  },
  argument: { name: 'PATH...', most: 1_000 },
  details: 'Reads policies and their tests (documents of the kind PolicyTest) from files and folders, decides what the tests ask and\n' +
    'compares. Exit code 0: all as expected; 5: something is not; 2: something cannot be read, or there are no tests.',
  examples: [
    'assay policy test policies/', 'assay policy test policies/ tests/orders.yaml -output json', 'assay policy test -active policies/'
  ],
  async run (call) {
    const { flags, arguments: paths, terminal } = call
    if (flags.active && flags.entries !== undefined) throw usage('-entries and -active exclude each other: the server knows its own')
    const inFiles = await loadPolicies(paths, flags.entries, terminal)
    const { set, entries } = flags.active ? await loadActive(call) : inFiles
    const tests = readPolicyTests(inFiles.texts)
    if (tests.length === 0) throw new SpiffeError('file_unusable', 'there are no tests: no document is of the kind PolicyTest')
    const report = runPolicyTests(decidingSetOf({ set, entries }), tests, flags.time ?? systemClock.now())
    terminal.out(flags.output === 'json' ? `${formatJson(plainReport(report))}\n` : formatReport(report))
    return report.failures.length > 0 || (flags.requireRules && report.untested.length > 0) ? 5 : 0
  }
})

function plainReport ({ failures, ...report }: TestReport): object {
  return { ...report, failures: failures.map(failure => ({ ...failure, request: requestJson(failure.request) })) }
}

function formatReport ({ tests, requests, failures, untested }: TestReport): string {
  const failed = new Set(failures.map(({ test, where }) => `${test}\n${where}`)).size
  return [
    ...failures.map(formatFailure),
    `${counted(tests, 'test', 'tests')}, ${counted(requests, 'request', 'requests')}: `,
    failed === 0 ? 'all passed\n' : `${failed} failed\n`,
    ...untested.length === 0 ? []
      : [`${counted(untested.length, 'rule decides', 'rules decide')} no request of a test: ${shown(untested)}\n`]
  ].join('')
}

function formatFailure ({ test, where, request, differences, explanation }: TestFailure): string {
  const { source, destination } = request
  return [
    `FAILED ${printable(test)} (${where})\n`,
    printable(`  ${source.id ?? 'nobody'} to ${destination.id ?? 'an unknown workload'}: ${operationOf(request)}`), '\n',
    ...differences.map(difference => `  ${printable(difference)}\n`),
    formatExplanation(explanation).replaceAll(/^/gm, '    ').trimEnd(), '\n\n'
  ].join('')
}

const mostShown = 10
function shown (names: readonly string[]): string {
  return `${names.slice(0, mostShown).join(', ')}${names.length > mostShown ? ` and ${names.length - mostShown} more` : ''}`
}
