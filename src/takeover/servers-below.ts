import type { Entry } from '../wire/generated/types.ts'
import { spiffeIdText } from '../wire/spiffe-id-codec.ts'
import type { AgentMove } from './agent-moves.ts'
import type { Finding } from './finding.ts'
import type { Phase } from './journal.ts'

/**
 * Servers below (`downstream` entries): no API tells which upstream address one has, so each is told of all the time, with what breaks
 * where it has the wrong one.
 * @param entries SPIRE's, or their copies
 * @param phase `gone`: SPIRE's server is
 */
export function serversBelow (
  entries: readonly Entry[], agents: readonly AgentMove[], phase: Phase | 'gone' | undefined
): readonly Finding[] {
  return entries.filter(({ downstream }) => downstream).map(({ id, spiffeId }) => ({
    kind: 'by-hand', code: 'server-below', about: spiffeIdText(spiffeId),
    ...told(agents.filter(({ downstream, place }) => downstream.includes(id) && (place === 'there' || place === 'here')), phase)
  }))
}

const giveOurs = 'give its upstream authority our server\'s address, and restart it'
const wayBack = 'before a roll-back give it SPIRE\'s again'

function told (agents: readonly AgentMove[], phase: Phase | 'gone' | undefined): Pick<Finding, 'message' | 'next'> {
  if (phase === 'gone') {
    return {
      message: 'with SPIRE\'s address still, it gets no next CA, and its next JWT keys are known to nobody here', next: giveOurs
    }
  }
  if (phase === 'rolled_back') {
    return {
      message: 'with our server\'s address it gets no next CA: it is not known here any more',
      next: 'give its upstream authority SPIRE\'s address again, and restart it'
    }
  }
  if (phase === 'finished') {
    return {
      message: 'with SPIRE\'s address still, its next JWT keys are known to nobody here, and without SPIRE\'s server it gets no next CA',
      next: `${giveOurs}; ${wayBack}`
    }
  }
  const [agent] = agents
  if (agent === undefined) {
    return { message: 'no agent gives this server below its identity', next: `if it is to start again, ${giveOurs}` }
  }
  return {
    message: `a server below has its CA from SPIRE, and publishes its JWT keys there, as known by ${agent.id}` +
      (agent.place === 'here' ? ', which is here' : ', which is at SPIRE'),
    next: agent.place === 'here'
      ? `before the takeover is finished ${giveOurs}; until then SPIRE serves it; ${wayBack}`
      : `it goes on while its agent moves; once that is here, ${giveOurs}`
  }
}
