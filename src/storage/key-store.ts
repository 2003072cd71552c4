/** Private keys that replicas share, each wrapped under a key that is not in the database. */
export interface KeyStore {
  list (): Promise<ReadonlyMap<string, Uint8Array>>
  /** Adds or replaces. */
  put (id: string, wrapped: Uint8Array): Promise<void>
  delete (id: string): Promise<void>
}
