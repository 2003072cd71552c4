import type { Agent } from '../../src/spiffe/agent.ts'
import type { SpiffeId } from '../../src/spiffe/spiffe-id.ts'

/** An attested node with sensible defaults. */
export function makeAgent (id: SpiffeId, rest: Partial<Omit<Agent, 'id'>> = {}): Agent {
  return {
    id,
    attestationType: 'join_token',
    serialNumber: 'a1',
    expiresAt: new Date('2030-01-01T00:00:00Z'),
    canReattest: false,
    selectors: [],
    banned: false,
    agentVersion: '',
    ...rest
  }
}
