import { lintPolicies } from '../../authz/lint/lint-policies.ts'
import { placesIn } from '../../authz/lint/rule-places.ts'
import { systemClock } from '../../runtime/clock.ts'
import { defineCommand } from '../command.ts'
import { instantFlag } from '../flag.ts'
import { formatJson } from '../json-output.ts'
import { formatFindings, lintExitCode, lintFlags, unignored } from '../lint-findings.ts'
import { usage } from '../parse-flags.ts'
import { counted } from '../pretty.ts'
import { outputFlag, serverFlags } from '../socket-path.ts'
import { loadActive } from './load-active.ts'
import { entriesFlag, loadPolicies } from './load-policies.ts'

export const policyLint = defineCommand({
  flags: {
    entries: entriesFlag,
    ...lintFlags,
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
    const findings = unignored(lintPolicies(set, { now: flags.time ?? systemClock.now(), entries, places: placesIn(texts) }), flags)
    terminal.out(flags.output === 'json' ? `${formatJson({ revision: set.revision, rules: set.rules.length, findings })}\n`
      : `${formatFindings(findings, 'policies')}${counted(findings.length, 'finding', 'findings')}\n`)
    return lintExitCode(findings, flags)
  }
})
