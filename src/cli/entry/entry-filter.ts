import type { ListEntriesRequest_FilterInit } from '../../wire/generated/server-entry.ts'
import { encodeSpiffeId } from '../../wire/spiffe-id-codec.ts'
import { choiceFlag, selectorListFlag, spiffeIdFlag, switchFlag, textFlag, trustDomainListFlag, type FlagValues } from '../flag.ts'
import { matchBehaviors, matchNames } from '../match-behavior.ts'

/** Which entries `entry show` and `entry count` mean; all of them without any flag. */
export const entryFilterFlags = {
  spiffeID: spiffeIdFlag('entries that give this SPIFFE ID'),
  parentID: spiffeIdFlag('entries under this parent'),
  selector: selectorListFlag('entries with this selector'),
  matchSelectorsOn: choiceFlag('how the entry\'s selectors relate to the given ones', matchNames, 'superset'),
  federatesWith: trustDomainListFlag('entries that federate with this trust domain'),
  matchFederatesWithOn: choiceFlag('how the entry\'s federated domains relate to the given ones', matchNames, 'superset'),
  downstream: switchFlag('entries of downstream servers'),
  hint: textFlag('entries with this hint')
}

export function entryFilterOf (flags: FlagValues<typeof entryFilterFlags>): ListEntriesRequest_FilterInit {
  const { spiffeID, parentID, selector, federatesWith, downstream, hint } = flags
  return {
    bySpiffeId: spiffeID && encodeSpiffeId(spiffeID),
    byParentId: parentID && encodeSpiffeId(parentID),
    bySelectors: selector.length > 0 ? { selectors: selector, match: matchBehaviors[flags.matchSelectorsOn] } : undefined,
    byFederatesWith: federatesWith.length > 0
      ? { trustDomains: federatesWith, match: matchBehaviors[flags.matchFederatesWithOn] }
      : undefined,
    byDownstream: downstream ? { value: true } : undefined,
    byHint: hint === undefined ? undefined : { value: hint }
  }
}
