import type { Selector } from '../../spiffe/selector.ts'

/** What a server learns about a node that has proved who it is. */
export interface AttestedNode {
  /** Below `/spire/agent/<attestor>/`, e.g. the instance's number. */
  readonly agentName: string
  readonly selectors: readonly Selector[]
  /** Whether the node can prove itself again, so that a lost or expired SVID needs no operator. */
  readonly canReattest: boolean
}

/** The server's half of a node attestor. */
export interface NodeAttestorServer {
  /** The name agents send as attestation type, e.g. `x509pop`. */
  readonly name: string
  /**
   * @param payload what the agent sent first
   * @param challenge sends a challenge and resolves with the agent's answer to it
   * @throws {SpiffeError} when the node cannot be believed
   */
  attest (payload: Uint8Array, challenge: (challenge: Uint8Array) => Promise<Uint8Array>, signal: AbortSignal): Promise<AttestedNode>
}

/** The agent's half. */
export interface NodeAttestorAgent {
  readonly name: string
  /** Yields the payload first; each `next(challenge)` then yields the answer. Secrets may be in all of it. */
  attest (signal: AbortSignal): AsyncGenerator<Uint8Array, void, Uint8Array>
}
