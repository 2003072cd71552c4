import type { Agent } from '../wire/generated/types.ts'
import { spiffeIdText } from '../wire/spiffe-id-codec.ts'
import type { AgentMove } from './agent-moves.ts'
import type { Finding } from './finding.ts'

/**
 * Agents banned at SPIRE that our server would let attest: its API bans only whom it knows. One that joined by a token has none here.
 * @param ours as our server lists them
 */
export function bansNotHere (agents: readonly AgentMove[], ours: readonly Agent[]): readonly Finding[] {
  const banned = new Set(ours.filter(({ banned }) => banned).map(({ id }) => spiffeIdText(id)))
  return agents.filter(({ id, place, how }) => place === 'banned' && (how === 'attests-alike' || how === 'by-alias') && !banned.has(id))
    .map(({ id, attestationType }) => ({
      kind: 'by-hand', code: 'ban-not-copied', about: id,
      message: `it is banned at SPIRE, not here, where its node may attest by ${attestationType}`,
      next: `take away what it attests with, or ban it once it is here: assay agent ban -spiffeID ${id}`
    }))
}
