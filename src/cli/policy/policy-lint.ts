import { severities, type Finding } from '../../authz/lint/finding.ts'
import { lintPolicies } from '../../authz/lint/lint-policies.ts'
import { placesIn } from '../../authz/lint/rule-places.ts'
import { systemClock } from '../../runtime/clock.ts'
import { defineCommand } from '../command.ts'
import { choiceFlag, commaListFlag, instantFlag } from '../flag.ts'
import { formatJson } from '../json-output.ts'
import { counted, printable } from '../pretty.ts'
import { outputFlag } from '../socket-path.ts'
import { entriesFlag, loadPolicies } from './load-policies.ts'

export const policyLint = defineCommand({
  flags: {
    entries: entriesFlag,
    failOn: choiceFlag('the least severity that ends with exit code 5', [...severities, 'never'], 'error'),
    ignore: commaListFlag('codes of findings that are meant to be so', 'CODE'),
    time: instantFlag('what counts as now; windows and scopes that end before are over'),
    output: outputFlag
  },
  argument: { name: 'PATH...', most: 1_000 },
  details: 'Finds rules that can never decide, and rules that let in more than they seem to. docs/policy-operation.md explains each\n' +
    'code. Exit code 0: nothing as severe as -failOn; 5: something is.',
  examples: ['assay policy lint policies/', 'assay policy lint policies/ -entries entries.json -failOn warning -output json'],
  async run ({ flags, arguments: paths, terminal }) {
    const { texts, set, entries } = await loadPolicies(paths, flags.entries, terminal)
    const findings = lintPolicies(set, { now: flags.time ?? systemClock.now(), entries, places: placesIn(texts) })
      .filter(({ code }) => !flags.ignore.includes(code))
    terminal.out(flags.output === 'json' ? `${formatJson({ revision: set.revision, rules: set.rules.length, findings })}\n`
      : `${findings.map(formatFinding).join('')}${counted(findings.length, 'finding', 'findings')}\n`)
    const { failOn } = flags
    return failOn !== 'never' && findings.some(({ severity }) => severities.indexOf(severity) <= severities.indexOf(failOn)) ? 5 : 0
  }
})

function formatFinding ({ code, severity, about, where, message, next }: Finding): string {
  const place = [where, about].filter(part => part !== undefined).join(': ')
  return [
    `${printable(place === '' ? 'policies' : place)}: ${severity}: ${printable(message)}\n`,
    `  code: ${code}; next: ${next}\n`
  ].join('')
}
