/** One-use join tokens. Only their SHA-256 is stored: nobody attests with what a stolen database says. */
export interface JoinTokenStore {
  /** @throws {SpiffeError} `join_token_exists`, `argument_invalid` when empty */
  create (token: string, expiresAt: Date): Promise<void>
  /**
   * Says whether the token would be taken at `now`; it is `AgentStore.attest` that takes it.
   * @throws {SpiffeError} `join_token_invalid`
   */
  check (token: string, now: Date): Promise<void>
  /** Removes what expired at or before `now`. @returns how many */
  prune (now: Date): Promise<number>
}
