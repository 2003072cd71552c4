/** The agent's half of a node attestor: how a machine proves to the server which one it is. */
export interface NodeAttestor {
  /** Sent as attestation type, e.g. `x509pop`. */
  readonly name: string
  /** Yields the payload first; each `next(challenge)` then yields the answer. Secrets may be in all of it. */
  attest (signal: AbortSignal): AsyncGenerator<Uint8Array, void, Uint8Array>
}
