import type { ListAgentsRequest_FilterInit } from '../../wire/generated/server-agent.ts'
import { choiceFlag, instantFlag, selectorListFlag, switchFlag, textFlag, type FlagValues } from '../flag.ts'
import { matchBehaviors, matchNames } from '../match-behavior.ts'

/** Which agents `agent list` and `agent count` mean; all of them without any flag. */
export const agentFilterFlags = {
  attestationType: textFlag('agents attested in this way', { placeholder: 'NAME' }),
  banned: switchFlag('agents that are banned; with false those that are not', { orUnset: true, valueMayFollow: true }),
  canReattest: switchFlag('agents that may attest again; with false those that may not', { orUnset: true, valueMayFollow: true }),
  expiresBefore: instantFlag('agents whose SVID ends before this time'),
  selector: selectorListFlag('agents with this selector'),
  matchSelectorsOn: choiceFlag('how the agent\'s selectors relate to the given ones', matchNames, 'superset')
}

export function agentFilterOf (flags: FlagValues<typeof agentFilterFlags>): ListAgentsRequest_FilterInit {
  const { attestationType, banned, canReattest, expiresBefore, selector, matchSelectorsOn } = flags
  return {
    byAttestationType: attestationType,
    byBanned: banned === undefined ? undefined : { value: banned },
    byCanReattest: canReattest === undefined ? undefined : { value: canReattest },
    byExpiresBefore: expiresBefore && goLayout(expiresBefore),
    bySelectorMatch: selector.length > 0 ? { selectors: selector, match: matchBehaviors[matchSelectorsOn] } : undefined
  }
}

/** `2006-01-02 15:04:05 -0700 -07`, the only layout that servers read. */
function goLayout (date: Date): string {
  return `${date.toISOString().slice(0, 19).replace('T', ' ')} +0000 +00`
}
