import type { NodeExchange } from '../../src/attestation/node/node-verifier.ts'

/** Of an agent of which nothing is asked. */
export const unchallenged: NodeExchange = {
  signal: new AbortController().signal,
  address: '192.0.2.1',
  challenge: async () => { throw new Error('a challenge that nobody expected') }
}
