import { isBlocked } from '../../takeover/finding.ts'
import type { LookedWithoutSpire } from '../../takeover/without-spire.ts'
import { counted, formatRows, formatTime } from '../pretty.ts'
import { agentsText, formatAgents, formatFindings } from './format-takeover.ts'

const dayMs = 86_400_000

/** What is left of a takeover whose SPIRE server is gone, for people. */
export function formatWithoutSpire ({ plan, journal, at }: LookedWithoutSpire): string {
  const { entries: { copied, missing, own }, lastKnownEnd, lastPossibleEnd, agents, agentsKnown } = plan
  const ended = journal.spireGoneAt === undefined ? '' : ` without SPIRE's server at ${formatTime(journal.spireGoneAt)}`
  return [
    formatRows([
      ['Trust domain', plan.trustDomain],
      ['Takeover', `${journal.phase.replace('_', ' ')}${ended}, begun ${formatTime(journal.startedAt)}`],
      ['SPIRE seen', `${formatTime(journal.lastRoundAt)}, the last time`],
      ['Entries', `${counted(copied, 'copy', 'copies')} here, ${missing.length} missing, ${own} made here`],
      ['Agents', agentsKnown ? agentsText(agents) : 'unknown: an earlier build kept the state file'],
      ['Agents\' SVIDs', lastKnownEnd === undefined ? undefined
        : `the last known end ${formatTime(lastKnownEnd)} (${daysText(lastKnownEnd, at)}), later if renewed after SPIRE was seen`],
      ['All SVIDs', lastPossibleEnd === undefined ? 'SPIRE has an authority that never ends: revoke it'
        : `of SPIRE's end by ${formatTime(lastPossibleEnd)} (${daysText(lastPossibleEnd, at)}), with its authorities`]
    ], 13),
    ...formatAgents(agents), ...formatFindings(plan.findings), '\n', formatNext({ plan, journal })
  ].join('')
}

function formatNext ({ plan: { findings, agents }, journal }: Pick<LookedWithoutSpire, 'plan' | 'journal'>): string {
  if (isBlocked(findings)) return 'Next: settle what is marked with !\n'
  const left = agents.filter(({ place }) => place === 'there').length
  const move = `move ${counted(left, 'agent', 'agents')} before their SVIDs end`
  if (journal.phase === 'finished') return left === 0 ? 'Next: nothing\n' : `Next: ${move}\n`
  return left === 0 ? 'Next: assay takeover finish -spireGone\n' : `Next: ${move}, then assay takeover finish -spireGone\n`
}

/** Days that are left, to one place, rounded down. */
function daysLeft (end: Date, at: Date): number { return Math.max(0, Math.floor((end.getTime() - at.getTime()) * 10 / dayMs) / 10) }

function daysText (end: Date, at: Date): string {
  return end <= at ? 'over' : `in ${daysLeft(end, at)} days`
}

/** For `--output json`. */
export function encodeWithoutSpire ({ plan, journal, at }: LookedWithoutSpire): object {
  const { trustDomain, entries, authorities, lastKnownEnd, lastPossibleEnd, agentsKnown, agents, findings } = plan
  const end = (instant: Date | undefined) => instant === undefined ? {} : { endsAt: instant, days: daysLeft(instant, at) }
  return {
    trustDomain, phase: journal.phase, spireGone: true, startedAt: journal.startedAt, spireSeenAt: journal.lastRoundAt,
    ...journal.spireGoneAt === undefined ? {} : { spireGoneAt: journal.spireGoneAt },
    entries, spireAuthorities: authorities, lastKnownSvid: end(lastKnownEnd), lastPossibleSvid: end(lastPossibleEnd),
    agentsKnown, agents, findings
  }
}
