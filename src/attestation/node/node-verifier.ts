/** The server's half of a node attestor: finds out which machine it is that shows something. */
export interface NodeVerifier {
  /** The attestation type that agents send, e.g. `k8s_psat`; also the type of all its selectors. */
  readonly name: string
  /**
   * @param payload what the agent sent first; secrets may be in it
   * @throws {SpiffeError} `attestation_malformed`, `attestation_refused`, and what the verifier asked could not be reached by
   */
  verify (payload: Uint8Array, exchange: NodeExchange): Promise<VerifiedNode>
}

/** What a verifier has of the agent beside the payload. */
export interface NodeExchange {
  readonly signal: AbortSignal
  /** The IP address that the agent calls from; `undefined`: it is on this machine. */
  readonly address: string | undefined
  /** Sends bytes to the agent, and yields its answer. @throws {SpiffeError} `attestation_malformed` when it gives none */
  challenge (challenge: Uint8Array): Promise<Uint8Array>
}

/** How the agent is called. */
export type VerifiedName =
  /** What comes after `/spire/agent/<name>/` in the agent's ID. */
  | { readonly idPath: string, readonly agentPath?: undefined }
  /** What comes after `/spire/agent`, where the operator's template says so; begins with a slash. */
  | { readonly agentPath: string, readonly idPath?: undefined }

export type VerifiedNode = VerifiedName & {
  /** Values of selectors. */
  readonly selectors: readonly string[]
  /** Whether it can show the same again, so that it attests instead of renewing. */
  readonly canReattest: boolean
  /** Whether nobody may attest by this ID while there is an agent of it (trust on first use). */
  readonly onlyOnce?: boolean | undefined
  /** To be used up in the transaction that records the agent. Secret until then, and in `idPath`. */
  readonly joinToken?: string | undefined
}
