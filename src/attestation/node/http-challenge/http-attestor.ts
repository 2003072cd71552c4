import { hostname } from 'node:os'
import { SpiffeError } from '../../../spiffe/errors.ts'
import type { NodeAttestor } from '../node-attestor.ts'
import { openChallengeListener } from './challenge-listener.ts'
import { challengePath, encodePlace, parseChallenge, parseHostName } from './http-payload.ts'

export interface HttpAttestorConfig {
  /** `undefined`: the machine's. */
  readonly hostName: string | undefined
  readonly agentName: string
  /** 0: one that is free. */
  readonly port: number
  /** Where the server asks, if something passes it on; 0: the port itself. */
  readonly advertisedPort: number
}

/** SPIRE's `http_challenge`, the agent's half: it listens as long as an attestation takes. */
export function createHttpAttestor ({ hostName, agentName, port, advertisedPort }: HttpAttestorConfig): NodeAttestor {
  return {
    name: 'http_challenge',
    async * attest () {
      const name = hostName ?? parseHostName(hostname())
      await using listener = await openChallengeListener(port, challengePath(agentName))
      listener.show(parseChallenge(yield encodePlace({ hostName: name, agentName, port: advertisedPort || listener.port })))
      // SPIRE's server waits for an answer that is not empty; what counts is what it reads at our port, until this is closed.
      yield Buffer.from('\n')
      throw new SpiffeError('attestation_malformed', 'the server challenged twice')
    }
  }
}
