import { hash } from 'node:crypto'
import { z } from 'zod'
import type { CredentialComposer } from '../../plugins/credential-composer.ts'
import type { Plugin } from '../../plugins/plugin.ts'

/** X.520's uniqueIdentifier. */
const uniqueIdentifier = '2.5.4.45'

/**
 * SPIRE's `uniqueid`: a subject of its own for each workload, as RFC 5280 §4.1.2.6 wants it. The first half of the SHA-256 of the SPIFFE
 * ID, in hex.
 */
export const uniqueIdComposerPlugin: Plugin<CredentialComposer, unknown, unknown> = {
  name: 'uniqueid',
  config: z.strictObject({}),
  start: async () => ({
    name: 'uniqueid',
    async composeWorkloadX509Svid ({ subject, ...attributes }, { id }) {
      const others = subject.extraNames.filter(({ oid }) => oid !== uniqueIdentifier)
      const own = { oid: uniqueIdentifier, value: hash('sha256', id, 'hex').slice(0, 32) }
      return { ...attributes, subject: { ...subject, extraNames: [...others, own] } }
    },
    async [Symbol.asyncDispose] () {}
  })
}
