import { createHash } from 'node:crypto'

/** What is signed: neither side chooses it alone. */
export function bothNonces (challenger: Uint8Array, challenged: Uint8Array): Buffer {
  return createHash('sha256').update(challenger).update(challenged).digest()
}
