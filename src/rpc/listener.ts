/** Something that accepts connections for a server. */
export interface Listener {
  /** Accepts no more; connections and calls go on. */
  stopAccepting (): void
  /** New handshakes use the identity as it is now. */
  refreshIdentity (): void
  /** Tells clients to go; a connection closes when its last call has ended. */
  drain (): void
  /** Ends whatever is left. */
  close (): void
}
