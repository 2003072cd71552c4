/**
 * What an Envoy that this program configured itself says beside its question, as metadata of the call. It cannot come from whoever sent the
 * request: Envoy makes it of its configuration and of what its filters kept of the connection.
 */
export const checkMetadata = {
  destination: 'assay-destination',
  /** In place of the certificate, for a stream out of a tunnel. */
  source: 'assay-source',
  sourceAddress: 'assay-source-address'
} as const

/** By name. */
export type CheckMetadata = Readonly<Record<string, unknown>>
