/** Keeps bytes so that only this node can read them, and nobody can change them unseen. */
export interface Sealing {
  /** Its name in the configuration, for logs. */
  readonly name: string
  /** @param context what the bytes are; `open` must name the same. @throws {SpiffeError} `file_unusable`, `keyring_unusable` */
  seal (bytes: Uint8Array, context: string): Promise<Uint8Array>
  /** @throws {SpiffeError} `cache_unusable` when they were not sealed here, or changed since; `file_unusable`, `keyring_unusable` */
  open (sealed: Uint8Array, context: string): Promise<Uint8Array>
}
