import { severities, type LintFinding } from '../spiffe/lint-finding.ts'
import type { ExitCode } from './command.ts'
import { choiceFlag, commaListFlag, type FlagValues } from './flag.ts'
import { printable } from './pretty.ts'

/** What `lint` of policies and of manifests have in common. */
export const lintFlags = {
  failOn: choiceFlag('the least severity that ends with exit code 5', [...severities, 'never'], 'error'),
  ignore: commaListFlag('codes of findings that are meant to be so', 'CODE')
}

type LintFlags = FlagValues<typeof lintFlags>

/** Without those that are meant to be so. */
export function unignored<Finding extends LintFinding> (findings: readonly Finding[], { ignore }: LintFlags): Finding[] {
  return findings.filter(({ code }) => !ignore.includes(code))
}

/** @param all what is meant where nothing is named */
export function formatFindings (findings: readonly LintFinding[], all: string): string {
  return findings.map(({ code, severity, about, where, message, next }) => {
    const place = [where, about].filter(part => part !== undefined).join(': ')
    return `${printable(place === '' ? all : place)}: ${severity}: ${printable(message)}\n  code: ${code}; next: ${next}\n`
  }).join('')
}

export function lintExitCode (findings: readonly LintFinding[], { failOn }: LintFlags): ExitCode {
  return failOn !== 'never' && findings.some(({ severity }) => severities.indexOf(severity) <= severities.indexOf(failOn)) ? 5 : 0
}
