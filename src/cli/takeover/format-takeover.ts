import type { AgentMove } from '../../takeover/agent-moves.ts'
import { isEmpty, namesOf, type Authorities } from '../../takeover/authorities.ts'
import { type Finding, isBlocked } from '../../takeover/finding.ts'
import { settledAt, type Journal } from '../../takeover/journal.ts'
import type { Looked } from '../../takeover/look.ts'
import { spiffeIdText } from '../../wire/spiffe-id-codec.ts'
import { counted, formatRows, formatTable, formatTime, printable } from '../pretty.ts'

const mostListed = 20

/** What is left and what would break, for people. */
export function formatTakeover ({ plan, journal, at }: Looked): string {
  const { authorities: { toThere, toHere }, entries, relationships, bundles, agents, findings } = plan
  return [
    formatRows([
      ['Trust domain', plan.trustDomain],
      ['Takeover', phaseText(journal, at)],
      ['Bundles', isEmpty(toThere) && isEmpty(toHere)
        ? 'each side has the other\'s authorities'
        : `${authoritiesText(toThere, 'of ours to SPIRE')}, ${authoritiesText(toHere, 'of SPIRE to ours')}`],
      ['Partners', relationships.length + bundles.length === 0 ? 'our server has them all'
        : `${counted(relationships.length, 'relationship', 'relationships')}, ${counted(bundles.length, 'bundle', 'bundles')} to copy`],
      ['Entries', entriesText(entries)],
      ['Agents', agentsText(agents)]
    ], 13),
    ...formatAgents(agents),
    ...formatFindings(findings),
    '\n', formatNext({ plan, journal, at })
  ].join('')
}

export function formatAgents (agents: readonly AgentMove[]): readonly string[] {
  if (agents.length === 0) return []
  const rows = agents.slice(0, mostListed).map(agent => [
    agent.id, agent.attestationType, agent.place, formatTime(agent.expiresAt), moveText(agent)
  ])
  const more = agents.length > mostListed ? [`and ${agents.length - mostListed} more\n`] : []
  return ['\n', formatTable(['AGENT', 'ATTESTED BY', 'WHERE', 'SVID ENDS', 'MOVE'], rows), ...more]
}

/** The next step, and what would break at it. */
function formatNext ({ plan, journal, at }: Pick<Looked, 'plan' | 'journal' | 'at'>): string {
  if (isBlocked(plan.findings)) return 'Next: settle what is marked with !; until then nothing is begun\n'
  if (journal === undefined) {
    return 'Next: assay takeover start; it breaks nobody: bundles grow, and entries are copied once everybody had time to see them\n'
  }
  if (journal.phase === 'publishing') {
    return settledAt(journal) <= at ? 'Next: assay takeover run copies entries now and keeps both sides equal; then agents may move\n'
      : `Next: assay takeover run; who moves before ${formatTime(settledAt(journal))} finds no entries here: ` +
        'what it would have signed, not everybody could verify yet\n'
  }
  if (journal.phase === 'finished') return 'Next: stop SPIRE\'s server; assay takeover rollback goes back as long as it runs\n'
  if (journal.phase === 'rolled_back') return 'Next: nothing; our authorities leave SPIRE\'s bundle when they end\n'
  const left = plan.agents.filter(({ place }) => place === 'there')
  const stuck = left.filter(({ obstacles }) => obstacles.length > 0)
  if (left.length === 0) return 'Next: assay takeover finish; nobody breaks\n'
  const breaks = stuck.length === 0 ? '' : `; ${counted(stuck.length, 'agent', 'agents')} would lose what is named above`
  return `Next: move ${counted(left.length, 'agent', 'agents')}, one by one; finishing now would break what is behind them${breaks}\n`
}

function phaseText (journal: Journal | undefined, at: Date): string {
  if (journal === undefined) return 'not begun'
  const since = `${journal.phase.replace('_', ' ')}, begun ${formatTime(journal.startedAt)}`
  if (journal.phase !== 'publishing') return `${since}, last round ${formatTime(journal.lastRoundAt)}`
  return `${since}, agents may move ${settledAt(journal) <= at ? 'after the next round' : `from ${formatTime(settledAt(journal))}`}`
}

function authoritiesText ({ x509, jwt }: Authorities, whose: string): string {
  return `${x509.length} X.509 and ${jwt.length} JWT ${whose}`
}

function entriesText ({ same, create, update, remove, conflicts }: Looked['plan']['entries']): string {
  const changes = [
    [create.length, 'to copy'], [update.length, 'to change'], [remove.length, 'to remove'], [conflicts.length, 'in conflict']
  ] as const
  const words = changes.filter(([count]) => count > 0).map(([count, what]) => `${count} ${what}`)
  return [`${same} the same`, ...words].join(', ')
}

export function agentsText (agents: readonly AgentMove[]): string {
  const count = (place: AgentMove['place']) => agents.filter(agent => agent.place === place).length
  return `${count('here')} here, ${count('there')} at SPIRE, ${count('gone')} gone, ${count('banned')} banned`
}

function moveText ({ how, place, obstacles }: AgentMove): string {
  if (place !== 'there' && place !== 'here') return '-'
  if (obstacles.length > 0) {
    const more = obstacles.length > 1 ? ` and ${obstacles.length - 1} more` : ''
    return `${place === 'here' ? 'is here, and lost' : 'would break'}: ${obstacles[0]}${more}`
  }
  if (place === 'here') return 'done'
  if (how === 'by-alias') return 'gets its new pod\'s ID; entries by aliases'
  return how === 'same-token' ? 'with its token made anew: assay takeover token' : 'attests alike'
}

const marks = { blocks: '!', stays: '~', 'by-hand': '-', lost: 'x' } as const

export function formatFindings (findings: readonly Finding[]): readonly string[] {
  return findings.length === 0 ? [] : ['\n', ...findings.slice(0, mostListed * 2).map(formatFinding)]
}

function formatFinding ({ kind, code, about, message, next }: Finding): string {
  return `${marks[kind]} ${code} ${printable(about)}: ${printable(message)}\n    ${printable(next)}\n`
}

/** For `--output json`. */
export function encodeTakeover ({ plan, journal, at }: Looked): object {
  const { entries, authorities, agents, findings, relationships, bundles } = plan
  return {
    trustDomain: plan.trustDomain,
    phase: journal?.phase ?? 'not_begun',
    ...journal === undefined ? {} : {
      startedAt: journal.startedAt, settledAt: settledAt(journal), settled: settledAt(journal) <= at, lastRoundAt: journal.lastRoundAt
    },
    authorities: { toSpire: namesOf(authorities.toThere), toOurs: namesOf(authorities.toHere) },
    relationships: relationships.map(({ trustDomain }) => trustDomain),
    bundles: bundles.map(({ trustDomain }) => trustDomain),
    entries: {
      same: entries.same,
      create: entries.create.map(({ id }) => id),
      update: entries.update.map(({ id }) => id),
      remove: entries.remove,
      conflicts: entries.conflicts.map(({ entry: { id, spiffeId }, with: other, why }) => (
        { id, spiffeId: spiffeIdText(spiffeId), with: other.id, why }
      ))
    },
    agents, findings
  }
}
