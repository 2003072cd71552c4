import { severities, type Finding } from '../../authz/lint/finding.ts'
import { lintPolicies } from '../../authz/lint/lint-policies.ts'
import { placesIn } from '../../authz/lint/rule-places.ts'
import { systemClock } from '../../runtime/clock.ts'
import { defineCommand } from '../command.ts'
import { choiceFlag, commaListFlag, instantFlag } from '../flag.ts'
import { formatJson } from '../json-output.ts'
import { usage } from '../parse-flags.ts'
import { counted, printable } from '../pretty.ts'
import { outputFlag, serverFlags } from '../socket-path.ts'
import { loadActive } from './load-active.ts'
import { entriesFlag, loadPolicies } from './load-policies.ts'

export const policyLint = defineCommand({
  flags: {
    entries: entriesFlag,
    failOn: choiceFlag('the least severity that ends with exit code 5', [...severities, 'never'], 'error'),
    ignore: commaListFlag('codes of findings that are meant to be so', 'CODE'),
    time: instantFlag('what counts as now; windows and scopes that end before are over'),
    ...serverFlags,
    output: outputFlag
  },
  argument: { name: 'PATH...', optional: true, most: 1_000 },
  details: 'Finds rules that can never decide, and rules that let in more than they seem to, in files; without PATH in the policies\n' +
    'that are active on the server, whose entries are looked at too. docs/policy-operation.md explains each code. Exit code 0:\n' +
    'nothing as severe as -failOn; 5: something is.',
  examples: ['assay policy lint policies/', 'assay policy lint policies/ -entries entries.json -failOn warning -output json',
    'assay policy lint -socketPath /run/assay/api.sock'],
  async run (call) {
    const { flags, arguments: paths, terminal } = call
    if (paths.length === 0 && flags.entries !== undefined) throw usage('-entries is for policies in files: the server knows its own')
    const { texts, set, entries } = paths.length === 0 ? await loadActive(call) : await loadPolicies(paths, flags.entries, terminal)
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
