import { SpiffeError } from '../../spiffe/errors.ts'
import { checkMemberId, checkWorkloadId } from '../../spiffe/member-id.ts'
import { checkSelector, type Selector } from '../../spiffe/selector.ts'
import { parseTrustDomainOrId } from '../../spiffe/spiffe-id.ts'
import type { TrustDomain } from '../../spiffe/trust-domain.ts'
import type { AgentFilter } from '../../storage/agent-store.ts'
import type { EntryFilter } from '../../storage/entry-store.ts'
import type { MatchKind, SetMatch } from '../../storage/set-match.ts'
import type { ListAgentsRequest_Filter } from '../../wire/generated/server-agent.ts'
import type { ListEntriesRequest_Filter } from '../../wire/generated/server-entry.ts'
import type { FederatesWithMatch, SelectorMatch } from '../../wire/generated/types.ts'
import { decodeSpiffeId } from '../../wire/spiffe-id-codec.ts'
import { saidFirst } from './said-first.ts'

const matchKinds: readonly MatchKind[] = ['exact', 'subset', 'superset', 'any']

/** @throws {SpiffeError} `argument_invalid`, naming the part of the filter at fault: also an ID that no entry of this trust domain has */
export function decodeEntryFilter (filter: ListEntriesRequest_Filter | undefined, trustDomain: TrustDomain): EntryFilter {
  if (filter === undefined) return {}
  return {
    spiffeId: filter.bySpiffeId && part('SPIFFE ID', () => checkWorkloadId(decodeSpiffeId(filter.bySpiffeId), trustDomain)),
    parentId: filter.byParentId && part('parent ID', () => checkMemberId(decodeSpiffeId(filter.byParentId), trustDomain)),
    selectors: decodeSelectorMatch(filter.bySelectors),
    federatesWith: decodeFederatesWith(filter.byFederatesWith),
    hint: filter.byHint?.value,
    downstream: filter.byDownstream?.value
  }
}

/** @throws {SpiffeError} `argument_invalid` */
export function decodeAgentFilter (filter: ListAgentsRequest_Filter | undefined): AgentFilter {
  if (filter === undefined) return {}
  return {
    attestationType: filter.byAttestationType,
    selectors: saidFirst('failed to parse selectors: ', () => decodeSelectorMatch(filter.bySelectorMatch)),
    banned: filter.byBanned?.value,
    canReattest: filter.byCanReattest?.value,
    expiresBefore: parseGoTime(filter.byExpiresBefore)
  }
}

function decodeSelectorMatch (match: SelectorMatch | undefined): SetMatch<Selector> | undefined {
  if (match === undefined) return undefined
  if (match.selectors.length === 0) throw new SpiffeError('argument_invalid', 'malformed selectors filter: empty selector set')
  return { match: kindOf(match.match), values: match.selectors.map(selector => part('selectors', () => checkSelector(selector))) }
}

function decodeFederatesWith (match: FederatesWithMatch | undefined): SetMatch<TrustDomain> | undefined {
  if (match === undefined) return undefined
  if (match.trustDomains.length === 0) throw new SpiffeError('argument_invalid', 'malformed federates with filter: empty trust domain set')
  return { match: kindOf(match.match), values: match.trustDomains.map(name => part('federates with', () => parseTrustDomainOrId(name))) }
}

function kindOf (wire: number): MatchKind {
  const kind = matchKinds[wire]
  if (kind === undefined) throw new SpiffeError('argument_invalid', `unknown match behavior ${wire}`)
  return kind
}

function part<T> (name: string, decode: () => T): T {
  try {
    return decode()
  } catch (error) {
    throw new SpiffeError('argument_invalid', `malformed ${name} filter: ${(error as Error).message}`, { cause: error })
  }
}

/** `2006-01-02 15:04:05 -0700 -07`, as SPIRE's clients write a time; anything else filters nothing (spire-surface §1.3). */
function parseGoTime (text: string): Date | undefined {
  const match = /^(\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d) ([+-]\d\d)(\d\d) \S+$/.exec(text)
  if (match === null) return undefined
  const date = new Date(`${match[1]}T${match[2]}${match[3]}:${match[4]}`)
  return Number.isNaN(date.getTime()) ? undefined : date
}
