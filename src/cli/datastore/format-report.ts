import { formatFinding, type Finding, type Identities } from '../../storage/backup/findings.ts'
import type { RestoreReport } from '../../storage/backup/restore-datastore.ts'
import { formatTime, printable } from '../pretty.ts'
import { formatBackup, headerFacts } from './format-backup.ts'

const mostShown = 20

/** What a restore is about to do, for people. */
export function formatReport (file: string, { backup, target, identities, findings }: RestoreReport): string {
  return [
    formatBackup(file, backup),
    `Into        : ${printable(target)}\n`,
    `${explain[identities]}\n`,
    identities === 'empty' ? formatUnknown(backup.takenAt) : formatFindings(findings)
  ].join('')
}

export function reportFacts ({ backup, target, kind, identities, findings }: RestoreReport): Record<string, unknown> {
  return { backup: headerFacts(backup), target, kind, identities, compared: identities !== 'empty', findings }
}

const explain: Readonly<Record<Identities, string>> = {
  empty: 'Agents, authorities and keys are those of the backup.',
  kept: 'Agents, join tokens, authorities, keys and the own bundle stay as they are now; entries and federated bundles become those of ' +
    'the backup.',
  merged: 'This database does not go on from the one in the backup: all is as in the backup, and whom this one has banned or distrusts ' +
    'stays banned or distrusted.',
  discarded: 'All is as in the backup, revocations made since are discarded.'
}

function formatFindings (findings: readonly Finding[]): string {
  if (findings.length === 0) return 'Compared with the backup, nothing has changed since.\n'
  return `Changed since the backup:\n${findings.map(formatListed).join('')}`
}

function formatListed (finding: Finding): string {
  const shown = finding.listed.slice(0, mostShown)
  const left = finding.total - shown.length
  return [
    `  ${formatFinding(finding)}\n`,
    ...shown.map(({ id, spiffeId }) => `    ${printable(spiffeId === undefined ? id : `${spiffeId} (${id})`)}\n`),
    ...left > 0 ? [`    and ${left} more\n`] : []
  ].join('')
}

function formatUnknown (takenAt: Date): string {
  const since = formatTime(takenAt)
  return `Nothing could be compared: the database is empty. What was changed after ${since} is undone, and nobody can list it.\n` +
    [
      'Agents banned or evicted since are attested again: ban them anew (`assay agent ban`).',
      'Authorities tainted or revoked since are trusted again: look at what was compromised, and repeat it.',
      'Entries deleted or changed since are back as they were: compare with where they come from (`assay entry show`).',
      'Agents that renewed their SVID since are refused and must attest again; join tokens are in no backup, make new ones.',
      'The log of the old server names each of these changes, if you have it.'
    ].map(line => `  ${line}\n`).join('')
}
