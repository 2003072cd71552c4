/** Longer ones are not supported by the standard (WLAPI-37); the identity is given without it. */
const maxHintBytes = 1024

/**
 * Of the identities with the same hint only the first stays, that is the one of the oldest entry (WLAPI-36); those without one all do.
 * Identities come ordered by entry.
 */
export function withUniqueHints<T extends { readonly hint: string }> (svids: readonly T[]): T[] {
  const seen = new Set<string>()
  return svids.flatMap(svid => {
    if (svid.hint === '') return [svid]
    if (Buffer.byteLength(svid.hint) > maxHintBytes) return [{ ...svid, hint: '' }]
    if (seen.has(svid.hint)) return []
    seen.add(svid.hint)
    return [svid]
  })
}
