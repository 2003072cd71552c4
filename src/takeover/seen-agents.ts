import { z } from 'zod'
import { instant } from '../runtime/config-schema.ts'
import type { AgentMove } from './agent-moves.ts'

/** What a journal remembers of an agent: where it is, changes without SPIRE's server, too. */
export const seenAgentSchema = z.strictObject({
  id: z.string(),
  attestationType: z.string(),
  banned: z.boolean(),
  /** End of the SVID that it had then; it may have renewed since. */
  expiresAt: instant,
  how: z.enum(['attests-alike', 'same-token', 'by-alias']).optional(),
  obstacles: z.array(z.string()),
  downstream: z.array(z.string())
})

export type SeenAgent = z.output<typeof seenAgentSchema>

export function seenAgent ({ id, attestationType, place, expiresAt, how, obstacles, downstream }: AgentMove): SeenAgent {
  return { id, attestationType, banned: place === 'banned', expiresAt, how, obstacles: [...obstacles], downstream: [...downstream] }
}

export interface WhereSeen {
  /** IDs of agents that our server has heard of lately. */
  readonly here: ReadonlySet<string>
  /** When SPIRE's server was last asked: an SVID that had not ended then may have been renewed before it was gone. */
  readonly seenAt: Date
  /** When nothing that SPIRE signed can be valid any more; `undefined`: never. */
  readonly lastPossibleEnd: Date | undefined
  readonly at: Date
}

/** Where an agent is now, as far as anybody can tell without SPIRE's server. */
export function placeSeen ({ banned, ...agent }: SeenAgent, { here, seenAt, lastPossibleEnd, at }: WhereSeen): AgentMove {
  const isOver = agent.expiresAt <= seenAt || (lastPossibleEnd !== undefined && lastPossibleEnd <= at)
  return { ...agent, how: agent.how, place: banned ? 'banned' : here.has(agent.id) ? 'here' : isOver ? 'gone' : 'there' }
}
